//! Video autoencoders, streamed through their causal caches.
