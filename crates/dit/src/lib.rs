//! Video diffusion transformers.
