//! [`StreamState`]: the state of a stream of chunks between pushes.

use kinora_nn::CausalCache;
use std::cell::Cell;

/// Numbers the layers that have a causal cache, while a network is built.
#[derive(Default)]
pub(super) struct Slots(Cell<usize>);

impl Slots {
    pub(super) fn next(&self) -> usize {
        self.0.replace(self.0.get() + 1)
    }
}

/// The causal caches of one stream, by the numbers of [`Slots`].
#[derive(Default)]
pub(super) struct StreamState {
    caches: Vec<CausalCache>,
    chunks: usize,
}

impl StreamState {
    /// Whether this is the clip's first chunk, a single frame that the temporal resampling passes through.
    pub(super) fn is_first(&self) -> bool {
        self.chunks == 0
    }

    /// Returns the causal cache of the layer with this number.
    pub(super) fn cache(&mut self, slot: usize) -> &mut CausalCache {
        if slot >= self.caches.len() {
            self.caches.resize_with(slot + 1, CausalCache::default);
        }
        &mut self.caches[slot]
    }

    /// Ends a chunk.
    pub(super) fn finish_chunk(&mut self) {
        self.chunks += 1;
    }
}
