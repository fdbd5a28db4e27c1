//! Step caches: what earlier steps computed stands in for a prediction that would hardly differ from it.
//!
//! | name | decides by | reuses |
//! |---|---|---|
//! | `first-block` | the change of what the first block adds, <https://github.com/chengzeyi/ParaAttention> | what all other blocks added |
//! | `easycache` | the change of the latents, <https://arxiv.org/abs/2507.02860> | velocity less latents |
//! | `teacache` | the change of the embedded timestep, <https://arxiv.org/abs/2411.19108> | what all blocks added |
//! | `magcache` | a table of how what the blocks add grows, <https://arxiv.org/abs/2506.09045> | what all blocks added |
//!
//! [`CacheRule`] holds the numbers and decides; [`StepCache`] keeps the tensors of a run. The predictions of a step are
//! kept apart, and another expert starts anew.

mod memory;
mod rule;
mod state;

pub use rule::CacheRule;
pub(crate) use state::{Predicted, StepCache};

/// Which prediction of a run is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct At {
    /// The step, from 0.
    pub step: usize,
    /// [`Pass`](crate::families::capabilities::Pass) as a number, 0 for the prompt's.
    pub prediction: usize,
}
