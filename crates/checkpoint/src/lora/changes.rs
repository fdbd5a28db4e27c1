//! [`Changes`]: what LoRAs change, by the canonical name of the tensor.

use super::error::LoraError;
use super::file::LoraFile;
use super::key::Part;
use super::module::{Delta, Leaf, Module, Piece};
use super::stored::Factor;
use super::target::{Expert, LoraTarget, Place};
use crate::{Error, Result};
use std::collections::BTreeMap;

/// The changes that LoRAs make, by the canonical name of the tensor.
#[derive(Clone, Default)]
pub struct Changes {
    pub(super) tensors: BTreeMap<String, Vec<Change>>,
    remarks: Vec<String>,
}

/// A change of one tensor by one file. Its values are read when they are needed.
#[derive(Clone)]
pub struct Change {
    pub(super) piece: Piece,
    pub(super) strength: f32,
    /// The shape of the changed tensor.
    pub(super) shape: Vec<usize>,
}

impl Changes {
    /// Returns whether nothing is changed.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// Returns the canonical names of the tensors that are changed, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Returns the changes of the tensor with that canonical name; none if it stays as it is.
    pub fn of(&self, name: &str) -> &[Change] {
        self.tensors.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// Returns sentences about what was left out.
    pub fn remarks(&self) -> &[String] {
        &self.remarks
    }

    /// Adds the changes of another file. Each change is computed from the unchanged tensor, so the order does not matter.
    pub fn merge(&mut self, other: Self) {
        for (name, changes) in other.tensors {
            self.tensors.entry(name).or_default().extend(changes);
        }
        self.remarks.extend(other.remarks);
    }
}

impl LoraFile {
    /// Returns what the file changes in a model, times `strength`; with a strength of 0, that is nothing.
    ///
    /// # Errors
    /// Modules that the model and its siblings do not have, changes of other shapes, and a strength that is no number.
    pub fn changes(&self, model: &LoraTarget, strength: f32) -> Result<Changes> {
        if !strength.is_finite() {
            return Err(LoraError::Strength { path: self.path().to_path_buf(), strength }.into());
        }
        let mut changes = Changes::default();
        let mut elsewhere = Vec::new();
        for module in &self.modules {
            if !self.is_for(module, model)? {
                continue;
            }
            match model.find(&module.name, module.flat) {
                Some(Place::Here(own)) => self.add(module, own, model, strength, &mut changes)?,
                Some(Place::Elsewhere) => elsewhere.extend(module.keys()),
                None => {
                    let key = module.keys().into_iter().next().unwrap_or_default();
                    let similar = model.similar(&module.name, module.flat);
                    let (path, module) = (self.path().to_path_buf(), module.name.clone());
                    return Err(LoraError::Module { path, key, module, similar }.into());
                }
            }
        }
        if strength == 0.0 {
            changes.tensors.clear();
        }
        if let Some(first) = elsewhere.first() {
            let (path, count) = (self.path().display(), elsewhere.len());
            let keys = if count == 1 { "key is" } else { "keys are" };
            changes.remarks.push(format!(
                "{path}: {count} {keys} for parts that this model lacks, such as `{first}`; the rest is applied"
            ));
        }
        Ok(changes)
    }

    /// Whether the module is one of the model's expert.
    fn is_for(&self, module: &Module, model: &LoraTarget) -> Result<bool> {
        match (model.expert(), module.part, self.experts()) {
            (None, Part::Second, _) => {
                let key = module.keys().into_iter().next().unwrap_or_default();
                Err(LoraError::SecondExpert { path: self.path().to_path_buf(), key }.into())
            }
            (Some(Expert::High), Part::Second, _) => Ok(false),
            // A file without keys of the second transformer is for either.
            (Some(Expert::Low), Part::First, [_, has_second]) => Ok(!has_second),
            _ => Ok(true),
        }
    }

    fn add(&self, module: &Module, own: &str, model: &LoraTarget, strength: f32, changes: &mut Changes) -> Result<()> {
        let path = || self.path().to_path_buf();
        let mut added = Vec::new();
        for piece in &module.pieces {
            let key = &piece.delta.key().key;
            let leaf = match piece.leaf {
                Leaf::Weight => "weight",
                Leaf::Bias => "bias",
                Leaf::Modulation => "modulation",
            };
            let named = format!("{own}.{leaf}");
            // A module can be a parameter itself, such as `blocks.0.modulation`.
            let itself = || Some((own.to_string(), model.shape(own).filter(|_| piece.leaf == Leaf::Weight)?));
            let found = model.shape(&named).map(|shape| (named.clone(), shape)).or_else(itself);
            let Some((tensor, shape)) = found else {
                return Err(LoraError::Tensor { path: path(), key: key.clone(), tensor: named }.into());
            };
            check_shape(piece, &tensor, shape)?;
            if let Some(first) = changes.of(&tensor).first() {
                let (first, second) = (first.piece.delta.key().key.clone(), key.clone());
                return Err(LoraError::Twice { path: path(), first, second, tensor }.into());
            }
            added.push((tensor, Change { piece: piece.clone(), strength, shape: shape.to_vec() }));
        }
        for (tensor, change) in added {
            changes.tensors.entry(tensor).or_default().push(change);
        }
        Ok(())
    }
}

impl Module {
    /// All keys that are tensors of changes.
    fn keys(&self) -> Vec<String> {
        let stored = |piece: &Piece| {
            let factors = piece.delta.factors().iter().flat_map(Factor::stored).chain(&piece.magnitude);
            factors.map(|stored| stored.key.clone()).collect::<Vec<_>>()
        };
        self.pieces.iter().flat_map(stored).collect()
    }
}

/// Checks that a change has the shape of the tensor.
fn check_shape(piece: &Piece, tensor: &str, expected: &[usize]) -> Result<()> {
    let (outputs, inputs) = match expected {
        [] => (1, 1),
        [outputs, rest @ ..] => (*outputs, rest.iter().product::<usize>()),
    };
    let wrong = |key: &str, found: Vec<usize>| {
        let (path, key) = (piece.delta.key().path(), key.to_string());
        Err(Error::from(LoraError::Shape { path, key, found, tensor: tensor.to_string(), expected: expected.to_vec() }))
    };
    let is_axes = |shape: &[usize]| shape.len() <= 2 || shape[1..] == expected[1.min(expected.len())..];
    match &piece.delta {
        Delta::Single(Factor::Whole(stored)) => {
            if without_ones(&stored.shape) != without_ones(expected) {
                return wrong(&stored.key, stored.shape.clone());
            }
        }
        Delta::Single(factor @ Factor::Product(product)) => {
            let down = &product.down.shape;
            let is_kernel = product.core.is_some() || is_axes(trimmed(down));
            if factor.size() != [outputs, inputs] || !is_kernel {
                let [rows, columns] = factor.size();
                let mut found = vec![rows];
                if is_kernel || down.len() < 3 {
                    found.push(columns);
                } else {
                    found.extend(&down[1..]);
                }
                return wrong(&factor.key().key, found);
            }
        }
        Delta::Hadamard(factors) => {
            if let Some(factor) = factors.iter().find(|factor| factor.size() != [outputs, inputs]) {
                return wrong(&factor.key().key, factor.size().to_vec());
            }
        }
        Delta::Kronecker([first, second]) => {
            let ([a, b], [c, d]) = (first.size(), second.size());
            let found = [a.saturating_mul(c), b.saturating_mul(d)];
            if found != [outputs, inputs] {
                return wrong(&second.key().key, found.to_vec());
            }
        }
    }
    if let Some(magnitude) = &piece.magnitude {
        let found = &magnitude.shape;
        let ones = |rest: &[usize]| rest.iter().all(|size| *size == 1);
        let per_output = found.first() == Some(&outputs) && ones(&found[1..]);
        let per_input = found.len() > 1 && found[0] == 1 && expected.get(1) == Some(&found[1]) && ones(&found[2..]);
        if !(per_output || per_input) {
            return wrong(&magnitude.key, found.clone());
        }
    }
    Ok(())
}

/// The shape without leading axes of 1, which files leave out.
fn without_ones(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().take_while(|size| **size == 1).count();
    &shape[ones.min(shape.len().saturating_sub(1))..]
}

/// The shape without axes of 1 at its end, which convolutions of one tap have.
fn trimmed(shape: &[usize]) -> &[usize] {
    let ones = shape.iter().rev().take_while(|size| **size == 1).count();
    &shape[..(shape.len() - ones).max(2.min(shape.len()))]
}
