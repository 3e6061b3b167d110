"""What a network is: a small graph of standard operators, its rules and its meaning."""
