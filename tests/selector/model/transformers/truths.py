"""Where a config's reading may differ from what transformers says of it, each with the reason."""

NO_CONFIG = {
    "causal-gemma4_assistant": "the class refuses its own defaults (hidden_size_per_layer_input)",
}

NUMBERS = {
    # (what we read, what the class says), why
    ("causal-longcat_flash", "layers"): ((28, 56), "the class counts the two attentions of each layer"),
    ("vision-pp_formulanet", "layers"): ((8, 12), "the class names the encoder's"),
}

ROTATED = {
    "causal-nemotron_h": "configs have a rope_theta, which the class does not read",
    "vision-nemotron_h_omni": "the same",
    "sound-nemo_speechlm": "the same",
    "causal-inkling_text": "relative positions, in a table beside attention",
    "causal-inkling2_text": "the same",
    "vision-inkling2": "the same",
    "vision-inkling_mm_model": "the same",
    "vision-pi0": "transformers does not say which inner config is the language model's",
}

PARAMETERS = {
    # (what we estimate of what the class allocates, what is not counted or counted too often)
    "causal-bigbird_pegasus": (0.79, "the class keeps an output embedding of its own, though its config ties them"),
    "causal-blt": (0.28, "three more transformers beside the one that is read, and tables of byte groups"),
    "causal-longcat_flash": (0.76, "the class allocates gates for experts that do nothing"),
    "causal-moss_transcribe_diarize": (0.66, "an audio encoder"),
    "causal-roc_bert": (0.88, "embeddings of pronunciations and glyphs"),
    "causal-xlnet": (0.93, "weights for relative positions"),
    "causal-xmod": (0.94, "an adapter for each language"),
    "causal-zaya": (1.12, "attention in a compressed width"),
    "vision-blip": (0.87, "cross attention in the language model"),
    "vision-blip-2": (0.91, "a transformer between vision and language"),
    "vision-ernie4_5_vl_moe": (0.77, "experts of their own for images"),
    "vision-florence2": (0.51, "the encoder"),
    "vision-granite_docling": (0.87, "the projection of vision"),
    "vision-idefics": (0.56, "cross attention in the language model"),
    "vision-idefics2": (0.91, "a perceiver between vision and language"),
    "vision-inkling_mm_model": (0.57, "projections of vision as wide as a whole image"),
    "vision-instructblip": (0.86, "a transformer between vision and language"),
    "vision-instructblipvideo": (0.86, "a transformer between vision and language"),
    "vision-janus": (0.94, "a second vision part, that draws"),
    "vision-pi0": (0.83, "a second language model, that acts"),
    "vision-qwen2_5_omni_thinker": (0.91, "an audio encoder"),
    "vision-t5gemma2": (0.55, "the encoder"),
    "vision-udop": (0.59, "the encoder"),
    "vision-unlimited_ocr": (0.88, "a second vision part"),
    "vision-vision-encoder-decoder": (0.49, "the encoder"),
}
