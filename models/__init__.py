"""Learned joint source-channel coding: picture → symbols and side information, and back."""
