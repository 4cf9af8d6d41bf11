"""IBM Spyre through torch_sendnn: what its library must find, in which order it is driven, and what it can hold."""
