"""``backend=openvino``: Programs compiled by OpenVINO, on the CPU."""
