//! The samplers by name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The least Jaro-Winkler similarity (1 is equal) of a name that an error suggests.
const SIMILAR: f64 = 0.7;

/// The method by which a [`Sampler`](crate::Sampler) goes from one noise level to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SamplerKind {
    /// First order, the plain flow step (`euler`).
    Euler,
    /// Second order, two evaluations a step (`heun`), <https://arxiv.org/abs/2206.00364>, algorithm 1.
    Heun,
    /// Second order, multistep in log-SNR (`dpm++2m`), <https://arxiv.org/abs/2211.01095>, algorithm 2.
    DpmPp2m,
    /// Order 2 with corrector, `B(h) = e^h - 1` (`unipc`), <https://arxiv.org/abs/2302.04867>.
    UniPc,
    /// Order 2 with corrector, `B(h) = h` (`unipc-bh1`), <https://arxiv.org/abs/2302.04867>.
    UniPcBh1,
    /// Estimates x0, then adds fresh noise up to the next level (`lcm`), for distilled models,
    /// <https://arxiv.org/abs/2303.01469>, algorithm 1.
    Lcm,
}

impl SamplerKind {
    /// All samplers, in the order in which they are listed to users.
    pub const ALL: [SamplerKind; 6] = [Self::Euler, Self::Heun, Self::DpmPp2m, Self::UniPc, Self::UniPcBh1, Self::Lcm];

    /// Returns the sampler's name on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Euler => "euler",
            Self::Heun => "heun",
            Self::DpmPp2m => "dpm++2m",
            Self::UniPc => "unipc",
            Self::UniPcBh1 => "unipc-bh1",
            Self::Lcm => "lcm",
        }
    }
}

impl fmt::Display for SamplerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for SamplerKind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name() == name)
            .ok_or_else(|| Error::UnknownSampler { name: name.to_owned(), similar: most_similar(name) })
    }
}

impl TryFrom<String> for SamplerKind {
    type Error = Error;

    fn try_from(name: String) -> Result<Self, Error> {
        name.parse()
    }
}

impl From<SamplerKind> for String {
    fn from(kind: SamplerKind) -> Self {
        kind.name().to_owned()
    }
}

fn most_similar(name: &str) -> Option<SamplerKind> {
    let name = name.to_lowercase();
    SamplerKind::ALL
        .into_iter()
        .map(|kind| (strsim::jaro_winkler(&name, kind.name()), kind))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, kind)| kind)
}
