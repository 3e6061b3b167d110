"""What each operator means: NumPy, any float type, forward and backward side by side.

This is the definition that every faster implementation is tested against, and a reference engine
that is quick enough to use. Clarity comes first; the speed comes from NumPy and its BLAS.
Forward and backward of an operator stand next to each other. Pictures are NHWC everywhere, and
results keep the float type of the input. One file holds one operator or one family of them:

    convolution  transposed_convolution  batch_norm  activation  pooling  residual  linear
    softmax  cross_entropy

and ``quantization`` with the ``quantized_`` operators, which compute on bytes, forward only.

Dimension letters, the same in every file (``arrays.check_shapes`` reads them as specifications):

    N        pictures in the batch
    H, W     height and width of the input, in pixels; HO, WO of the output
    C        channels, where input and output have the same
    IC, OC   input and output channels
    KH, KW   height and width of the kernel
    G        groups: channels are split into G parts that do not see each other
    K        classes

Left out on purpose: a graph or a tape (``lushan.graph`` decides what runs and when), state
(running statistics come in and go out as arrays), and broadcasting of mismatched shapes.
"""
