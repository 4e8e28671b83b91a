//! Text to token ids and back: tokenizers and chat templates. Knows nothing of tensors.
