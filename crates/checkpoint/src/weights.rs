//! [`Weights`]: a view of a checkpoint below one prefix, asked for tensors by canonical name and shape.

use crate::{Error, Result};
use candle_core::{DType, Device, Shape, Tensor};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Display;
use std::sync::{Arc, Mutex};

/// A view of a checkpoint below one prefix. Cloning is cheap; every view of one checkpoint shares what was asked for.
#[derive(Clone)]
pub struct Weights {
    inner: Arc<Inner>,
    prefix: String,
}

struct Inner {
    source: Source,
    device: Device,
    dtype: DType,
    asked: Mutex<BTreeMap<String, Vec<usize>>>,
}

enum Source {
    Tensors(HashMap<String, Tensor>),
    /// Answers every request with zeros that take no memory; see [`Weights::recorder`].
    Recorder,
}

impl Weights {
    /// Weights from tensors in memory, handed out on `device` as `dtype`.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, device: &Device, dtype: DType) -> Self {
        Self::new(Source::Tensors(tensors), device, dtype)
    }

    /// Weights that hold no data: every request is answered with zeros (a broadcast scalar) and remembered, so that a
    /// module can be asked which names and shapes it needs. See [`Weights::asked`].
    pub fn recorder() -> Self {
        Self::new(Source::Recorder, &Device::Cpu, DType::F32)
    }

    fn new(source: Source, device: &Device, dtype: DType) -> Self {
        let inner = Inner { source, device: device.clone(), dtype, asked: Mutex::default() };
        Self { inner: Arc::new(inner), prefix: String::new() }
    }

    /// The view below `name`: `weights.pp("blocks").pp(0)`.
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        let prefix = self.full(&name.to_string());
        Self { inner: self.inner.clone(), prefix }
    }

    /// The device that tensors are handed out on.
    pub fn device(&self) -> &Device {
        &self.inner.device
    }

    /// The dtype that [`Weights::get`] hands out.
    pub fn dtype(&self) -> DType {
        self.inner.dtype
    }

    /// The tensor `name` below this view, which must have `shape`, in the model's dtype.
    pub fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.get_dtype(name, shape, self.inner.dtype)
    }

    /// Like [`Weights::get`], in a dtype of the caller's choice (norms and modulation stay f32).
    pub fn get_dtype(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        Ok(self.get_stored(name, shape)?.to_dtype(dtype)?)
    }

    /// Like [`Weights::get`], in the dtype that the checkpoint stores (large tables are converted row by row, when used).
    pub fn get_stored(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        let (name, shape) = (self.full(name), shape.into());
        let tensor = match &self.inner.source {
            Source::Recorder => Tensor::zeros((), self.inner.dtype, &self.inner.device)?.broadcast_as(shape.clone())?,
            Source::Tensors(tensors) => {
                tensors.get(&name).cloned().ok_or_else(|| Error::Missing { name: name.clone(), similar: None })?
            }
        };
        if tensor.dims() != shape.dims() {
            let (found, expected) = (tensor.dims().to_vec(), shape.dims().to_vec());
            return Err(Error::Shape { name, found, expected });
        }
        self.inner.asked.lock().expect("no panic while asking").insert(name, shape.dims().to_vec());
        Ok(tensor.to_device(&self.inner.device)?)
    }

    /// Whether the checkpoint has the tensor `name` below this view (a recorder has none).
    pub fn contains(&self, name: &str) -> bool {
        match &self.inner.source {
            Source::Recorder => false,
            Source::Tensors(tensors) => tensors.contains_key(&self.full(name)),
        }
    }

    /// Canonical names and shapes asked for so far, over all views.
    pub fn asked(&self) -> BTreeMap<String, Vec<usize>> {
        self.inner.asked.lock().expect("no panic while asking").clone()
    }

    /// Checks that every tensor of the checkpoint was asked for.
    pub fn finish(&self) -> Result<()> {
        let Source::Tensors(tensors) = &self.inner.source else { return Ok(()) };
        let asked: BTreeSet<String> = self.asked().into_keys().collect();
        let mut names: Vec<String> = tensors.keys().filter(|name| !asked.contains(*name)).cloned().collect();
        names.sort();
        if names.is_empty() { Ok(()) } else { Err(Error::Unused { names }) }
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}
