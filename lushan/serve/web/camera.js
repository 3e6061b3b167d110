// A picture from the camera: in the page where the browser allows it, by the phone's own otherwise.

import { byId } from "./dom.js";
import { text } from "./texts.js";

let stream = null;

function stop() {
  stream?.getTracks().forEach((track) => track.stop());
  stream = null;
}

// `add` takes a list of files, `tell` a message.
export function openCamera(add, tell) {
  const [dialog, video] = [byId("camera-dialog"), byId("video")];
  byId("snap").onchange = (event) => {
    add([...event.target.files], text("photo"));
    event.target.value = "";
  };
  byId("camera").onclick = async () => {
    if (!navigator.mediaDevices?.getUserMedia) {
      byId("snap").click();
      return;
    }
    try {
      stream = await navigator.mediaDevices.getUserMedia({
        video: { facingMode: "environment", width: { ideal: 1280 } },
      });
    } catch (error) {
      tell(text("errorCamera", { reason: error.message }));
      return;
    }
    video.srcObject = stream;
    dialog.showModal();
  };
  byId("camera-close").onclick = () => dialog.close();
  dialog.onclose = stop;
  byId("shoot").onclick = () => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [video.videoWidth, video.videoHeight];
    if (!canvas.width) return;
    canvas.getContext("2d").drawImage(video, 0, 0);
    canvas.toBlob((blob) => {
      dialog.close();
      add([new File([blob], "camera.jpg", { type: "image/jpeg" })], text("photo"));
    }, "image/jpeg", 0.92);
  };
}
