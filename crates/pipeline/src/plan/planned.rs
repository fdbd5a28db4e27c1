//! [`Planned`]: a plan with everything that depends on the machine.

use super::Plan;
use super::memory::MemoryPlan;
use super::pace::Estimate;
use super::placement::Placement;
use serde::Serialize;

/// A plan with everything that depends on the machine.
#[derive(Debug, Clone, Serialize)]
#[non_exhaustive]
pub struct Planned {
    /// The plan itself.
    pub plan: Plan,
    /// Devices and dtypes, after fitting into a GPU's memory.
    #[serde(skip)]
    pub(crate) placement: Placement,
    /// The most memory that the run will need.
    pub memory: MemoryPlan,
    /// The time that the run will take, where anything is known of it.
    pub time: Option<Estimate>,
    /// Latent pixels per side of the tiles that frames are decoded in; `None` decodes whole frames.
    pub tile: Option<usize>,
    /// Sentences about changed values and other facts worth knowing.
    pub notices: Vec<String>,
}
