//! [`Module`]: the keys of one module, put together to the changes that they make; no model is needed for that.

use super::error::LoraError;
use super::key::{Half, Letter, Part, Slot};
use super::scale::{Peft, number};
use super::stored::{Factor, Product, Stored};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The changes of one module.
pub(super) struct Module {
    /// Its name, without prefixes.
    pub(super) name: String,
    pub(super) part: Part,
    /// Whether the name's dots may be underscores.
    pub(super) flat: bool,
    pub(super) pieces: Vec<Piece>,
}

/// A change of one tensor.
#[derive(Clone)]
pub(super) struct Piece {
    pub(super) leaf: Leaf,
    pub(super) delta: Delta,
    /// What the change is multiplied by, beside the strength: alpha / rank.
    pub(super) factor: f32,
    /// The alpha that the file gives.
    pub(super) alpha: Option<f64>,
    /// The norms that DoRA gives the changed weight.
    pub(super) magnitude: Option<Stored>,
}

/// The tensor of a module that is changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Leaf {
    Weight,
    Bias,
    Modulation,
}

/// How a change is written.
#[derive(Clone)]
pub(super) enum Delta {
    Single(Factor),
    /// The product element by element (LoHa).
    Hadamard([Factor; 2]),
    /// The Kronecker product (LoKr).
    Kronecker([Factor; 2]),
}

impl Delta {
    pub(super) fn factors(&self) -> &[Factor] {
        match self {
            Self::Single(factor) => std::slice::from_ref(factor),
            Self::Hadamard(factors) | Self::Kronecker(factors) => factors,
        }
    }

    /// The name of the kind.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Single(Factor::Whole(_)) => "differences",
            Self::Single(Factor::Product(_)) => "pairs",
            Self::Hadamard(_) => "LoHa",
            Self::Kronecker(_) => "LoKr",
        }
    }

    /// The rank that alpha is divided by; `None` where alpha does not count: whole LoKr factors are not scaled, whatever
    /// alpha their file has.
    pub(super) fn rank(&self) -> Option<usize> {
        match self {
            Self::Single(factor) => factor.rank(),
            Self::Hadamard([_, second]) => second.rank(),
            Self::Kronecker([first, second]) => second.rank().or(first.rank()),
        }
    }

    /// The key to name in messages.
    pub(super) fn key(&self) -> &Stored {
        self.factors().first().map_or_else(|| unreachable!("a change has a factor"), Factor::key)
    }
}

/// The tensors of one module, by what they are.
pub(super) struct Slots<'a> {
    pub(super) name: String,
    pub(super) part: Part,
    pub(super) flat: bool,
    /// The part of a key before its suffix.
    pub(super) stem: String,
    pub(super) tensors: BTreeMap<Slot, (Stored, String)>,
    pub(super) peft: Option<&'a Peft>,
}

impl Slots<'_> {
    /// Puts the keys together.
    ///
    /// # Errors
    /// Half a pair, ranks that differ, an alpha that is no number, and keys that belong to nothing.
    pub(super) fn module(mut self) -> Result<Module> {
        let mut pieces = Vec::new();
        let mut weights: Vec<Delta> = Vec::new();
        let core = self.take(Slot::Middle);
        match self.both(Slot::Down, Slot::Up)? {
            Some((down, up)) => {
                weights.push(Delta::Single(Factor::Product(Product { up, down, core, transposed: false }.checked()?)));
            }
            None => {
                if let Some(core) = core {
                    return Err(self.half(&core, "lora_down.weight"));
                }
            }
        }
        weights.extend(self.hadamard()?);
        weights.extend(self.kronecker()?);
        if let [first, second, ..] = weights.as_slice() {
            // Their one alpha would be divided by two ranks.
            let (first, second) = (first.key(), second.key().key.clone());
            let (path, tensor) = (first.path(), self.name.clone());
            return Err(LoraError::Twice { path, first: first.key.clone(), second, tensor }.into());
        }
        let scale = self.scale(&weights)?;
        let is_scaled = !weights.is_empty();
        weights.extend(self.take(Slot::Diff).map(|diff| Delta::Single(Factor::Whole(diff))));
        let magnitude = self.take(Slot::Magnitude);
        if let Some(magnitude) = magnitude.as_ref().filter(|_| weights.len() != 1) {
            return Err(self.half(magnitude, "lora_down.weight"));
        }
        for delta in weights {
            let whole = matches!(delta, Delta::Single(Factor::Whole(_)));
            let (factor, alpha) = if whole { (1.0, None) } else { scale };
            pieces.push(Piece { leaf: Leaf::Weight, delta, factor, alpha, magnitude: magnitude.clone() });
        }
        let whole = |leaf, stored, factor| Piece {
            leaf,
            delta: Delta::Single(Factor::Whole(stored)),
            factor,
            alpha: None,
            magnitude: None,
        };
        if let Some(bias) = self.take(Slot::UpBias) {
            if !is_scaled {
                return Err(self.half(&bias, "lora_B.weight"));
            }
            pieces.push(whole(Leaf::Bias, bias, scale.0));
        }
        for (slot, leaf) in [(Slot::DiffBias, Leaf::Bias), (Slot::DiffModulation, Leaf::Modulation)] {
            pieces.extend(self.take(slot).map(|diff| whole(leaf, diff, 1.0)));
        }
        if let Some((stored, _)) = self.tensors.values().next() {
            return Err(self.half(stored, "lora_down.weight"));
        }
        Ok(Module { name: self.name, part: self.part, flat: self.flat, pieces })
    }

    /// What pairs are multiplied by, and alpha. Without one, that is 1.
    fn scale(&mut self, weights: &[Delta]) -> Result<(f32, Option<f64>)> {
        let rank = weights.first().and_then(Delta::rank);
        let alpha = match (weights.first(), self.take(Slot::Alpha)) {
            (None, Some(alpha)) => return Err(self.half(&alpha, "lora_down.weight")),
            (_, alpha) => alpha,
        };
        match (alpha, rank) {
            (Some(alpha), None) => number(&alpha).map(|alpha| (1.0, Some(alpha))),
            (Some(alpha), Some(rank)) => {
                let alpha = number(&alpha)?;
                Ok(((alpha / rank as f64) as f32, Some(alpha)))
            }
            (None, Some(rank)) => {
                let found = self.peft.map(|peft| peft.factor(self.part, &self.name, rank)).transpose()?.flatten();
                Ok(found.map_or((1.0, None), |(factor, alpha)| (factor, Some(alpha))))
            }
            (None, None) => Ok((1.0, None)),
        }
    }

    fn hadamard(&mut self) -> Result<Option<Delta>> {
        let first = self.factor(Slot::Hadamard, Half::One, "hada_w1")?;
        let second = self.factor(Slot::Hadamard, Half::Two, "hada_w2")?;
        self.twice(first, second, ["hada_w1_a", "hada_w2_a"]).map(|factors| factors.map(Delta::Hadamard))
    }

    fn kronecker(&mut self) -> Result<Option<Delta>> {
        let first = self.factor(Slot::Kronecker, Half::One, "lokr_w1")?;
        let second = self.factor(Slot::Kronecker, Half::Two, "lokr_w2")?;
        self.twice(first, second, ["lokr_w1", "lokr_w2"]).map(|factors| factors.map(Delta::Kronecker))
    }

    /// Both factors or none.
    fn twice(&self, first: Option<Factor>, second: Option<Factor>, names: [&str; 2]) -> Result<Option<[Factor; 2]>> {
        match (first, second) {
            (Some(first), Some(second)) => Ok(Some([first, second])),
            (None, None) => Ok(None),
            (Some(first), None) => Err(self.half(first.key(), names[1])),
            (None, Some(second)) => Err(self.half(second.key(), names[0])),
        }
    }

    /// A factor of LoHa or LoKr.
    fn factor(&mut self, slot: fn(Half, Letter) -> Slot, half: Half, name: &str) -> Result<Option<Factor>> {
        let core = self.take(slot(half, Letter::T));
        let [up, down] = [Letter::A, Letter::B].map(|letter| self.take(slot(half, letter)));
        let whole = self.take(slot(half, Letter::Whole));
        match (whole, up, down) {
            (Some(whole), None, None) if core.is_none() => Ok(Some(Factor::Whole(whole))),
            (None, Some(up), Some(down)) => {
                let transposed = core.is_some();
                Ok(Some(Factor::Product(Product { up, down, core, transposed }.checked()?)))
            }
            (None, None, None) => match core {
                Some(core) => Err(self.half(&core, &format!("{name}_a"))),
                None => Ok(None),
            },
            (None, Some(up), None) => Err(self.half(&up, &format!("{name}_b"))),
            (None, None, Some(down)) => Err(self.half(&down, &format!("{name}_a"))),
            (Some(whole), up, down) => {
                let other = up.or(down).or(core).unwrap_or_else(|| whole.clone());
                Err(LoraError::Twice {
                    path: whole.path(),
                    first: whole.key,
                    second: other.key,
                    tensor: format!("{}.{name}", self.name),
                }
                .into())
            }
        }
    }

    fn take(&mut self, slot: Slot) -> Option<Stored> {
        self.tensors.remove(&slot).map(|(stored, _)| stored)
    }

    /// Both halves of a pair, or none.
    fn both(&mut self, down: Slot, up: Slot) -> Result<Option<(Stored, Stored)>> {
        match (self.tensors.remove(&down), self.tensors.remove(&up)) {
            (Some((down, _)), Some((up, _))) => Ok(Some((down, up))),
            (None, None) => Ok(None),
            (Some((half, missing)), None) | (None, Some((half, missing))) => {
                Err(LoraError::Half { path: half.path(), key: half.key, missing }.into())
            }
        }
    }

    /// The error of a key that needs another one.
    fn half(&self, stored: &Stored, missing: &str) -> Error {
        let missing = format!("{}.{missing}", self.stem);
        LoraError::Half { path: stored.path(), key: stored.key.clone(), missing }.into()
    }
}
