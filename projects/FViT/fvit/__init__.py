"""F-ViT: an open-vocabulary detector on a frozen dense CLIP.

Source: CLIPSelf (ICLR 2024), whose detector DeCLIP (CVPR 2025) puts on its own encoder (Tables 2, 3, 13, 14).
"""
