//! [`StreamState`]: what a stream of chunks remembers between pushes.

use candle_core::Tensor;

/// The causal caches of one stream, in the order in which its layers run.
#[derive(Default)]
pub(super) struct StreamState {
    slots: Vec<Option<Tensor>>,
    next: usize,
    chunks: usize,
}

impl StreamState {
    /// Whether this is the clip's first chunk, a single frame that the temporal resampling passes through.
    pub(super) fn is_first(&self) -> bool {
        self.chunks == 0
    }

    /// The cache of the layer that runs next. Every layer asks once per chunk, whether it needs its cache or not.
    pub(super) fn slot(&mut self) -> &mut Option<Tensor> {
        let slot = self.next;
        self.next += 1;
        if slot == self.slots.len() {
            self.slots.push(None);
        }
        &mut self.slots[slot]
    }

    /// Ends a chunk.
    pub(super) fn finish_chunk(&mut self) {
        self.next = 0;
        self.chunks += 1;
    }
}
