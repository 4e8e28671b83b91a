//! From logits to a token: temperature, top-k, top-p, min-p, on the host and from one seed per sequence.
