"""Weight files.

* :mod:`files`: reading every format that is in use, writing safetensors
* :mod:`layouts`: everybody's names for the same tensors
* :mod:`torchscript`: the tensors of TorchScript archives
"""
