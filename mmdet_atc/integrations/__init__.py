"""Token merging in other libraries' models: :mod:`.timm` and :mod:`.diffusers`.

Neither is imported here; both work without OpenMMLab.
"""
