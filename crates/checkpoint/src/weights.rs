//! [`Weights`]: a view of a checkpoint below one prefix, asked for tensors by canonical name and shape.

use crate::checkpoint::Checkpoint;
use crate::file::TensorFile;
use crate::index::open_files;
use crate::random::RandomWeights;
use crate::similar::most_similar;
use crate::{Error, KeyMap, Result};
use candle_core::{DType, Device, Shape, Tensor};
use std::collections::{BTreeMap, HashMap};
use std::fmt::{Display, Formatter};
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A view of a checkpoint below one prefix. Cloning is cheap; every view of one checkpoint shares what was asked for.
#[derive(Clone)]
pub struct Weights {
    inner: Arc<Inner>,
    prefix: String,
    quant: Option<Quant>,
    log: Option<TensorLog>,
}

/// Canonical names and tensors in the order in which they were handed out, see [`Weights::logged`].
pub type TensorLog = Arc<Mutex<Vec<(String, Tensor)>>>;

/// How the matrices of linear layers are to be rounded when they are loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Quant {
    /// To whole numbers of 8 bits, with one scale per output.
    Int8,
    /// To 8-bit floating point (e4m3), with one scale per output.
    Fp8,
}

impl Quant {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Int8, Self::Fp8];
}

struct Inner {
    source: Source,
    device: Device,
    dtype: DType,
    asked: Mutex<BTreeMap<String, Asked>>,
}

/// A tensor that was handed out.
struct Asked {
    shape: Vec<usize>,
    bytes: usize,
}

enum Source {
    Files(Checkpoint),
    /// Checks every request against the files' headers and answers with zeros; see [`Weights::headers_only`].
    Headers(Checkpoint),
    Tensors(HashMap<String, Tensor>),
    Random(RandomWeights),
    /// Answers every request with zeros that take no memory; see [`Weights::recorder`].
    Recorder,
}

impl Display for Quant {
    fn fmt(&self, f: &mut Formatter) -> std::fmt::Result {
        f.write_str(match self {
            Self::Int8 => "int8",
            Self::Fp8 => "fp8",
        })
    }
}

impl FromStr for Quant {
    type Err = ();

    /// The name that [`Display`] writes.
    fn from_str(name: &str) -> std::result::Result<Self, ()> {
        Self::ALL.into_iter().find(|quant| quant.to_string() == name).ok_or(())
    }
}

/// What was loaded.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Number of tensors.
    pub tensors: usize,
    /// Number of elements of all of them.
    pub parameters: usize,
    /// Size of all of them as they are stored.
    pub bytes: usize,
    /// Number of tensors by the dtype they are stored in.
    pub dtypes: BTreeMap<String, usize>,
}

impl Weights {
    /// The weights in `files` (safetensors, .pth, or a `.safetensors.index.json` that stands for its shards), with the
    /// names that the first fitting one of `key_maps` gives them, handed out on `device` as `dtype`. No map means that
    /// the names are the canonical ones. Only headers are read here; tensors are read when they are asked for.
    pub fn open(files: &[PathBuf], key_maps: &[&KeyMap], device: &Device, dtype: DType) -> Result<Self> {
        Self::from_files(open_files(files)?, key_maps, device, dtype)
    }

    /// Like [`Weights::open`], from files that are already open, such as [`TensorFile::from_static`].
    pub fn from_files(files: Vec<TensorFile>, key_maps: &[&KeyMap], device: &Device, dtype: DType) -> Result<Self> {
        Ok(Self::new(Source::Files(Checkpoint::new(files, key_maps)?), device, dtype))
    }

    /// The weights in `files` for a module that is built only to see whether they fit it: names, shapes and dtypes are
    /// checked as always, but no data is read, and every request is answered with zeros (a broadcast scalar) of the
    /// dtype that [`Weights::open`] would hand out for a model of `dtype`.
    pub fn headers_only(files: Vec<TensorFile>, key_maps: &[&KeyMap], dtype: DType) -> Result<Self> {
        Ok(Self::new(Source::Headers(Checkpoint::new(files, key_maps)?), &Device::Cpu, dtype))
    }

    /// Weights from tensors in memory, handed out on `device` as `dtype`.
    pub fn from_tensors(tensors: HashMap<String, Tensor>, device: &Device, dtype: DType) -> Self {
        Self::new(Source::Tensors(tensors), device, dtype)
    }

    /// Weights that hold no data: every request is answered with zeros (a broadcast scalar) and remembered, so that a
    /// module can be asked which names and shapes it needs. See [`Weights::asked`].
    pub fn recorder() -> Self {
        Self::recorder_of(DType::F32)
    }

    /// [`Weights::recorder`] for a model of `dtype`.
    pub fn recorder_of(dtype: DType) -> Self {
        Self::new(Source::Recorder, &Device::Cpu, dtype)
    }

    /// Weights that answer every request with random numbers of a sane scale (variance 1/fan-in, norms around one, small
    /// biases), the same for the same seed and name: for measuring a model's speed without its checkpoint.
    pub fn random(seed: u64, device: &Device, dtype: DType) -> Self {
        Self::new(Source::Random(RandomWeights::new(seed)), device, dtype)
    }

    fn new(source: Source, device: &Device, dtype: DType) -> Self {
        let inner = Inner { source, device: device.clone(), dtype, asked: Mutex::default() };
        Self { inner: Arc::new(inner), prefix: String::new(), quant: None, log: None }
    }

    /// The view below `name`: `weights.pp("blocks").pp(0)`.
    #[must_use]
    pub fn pp(&self, name: impl Display) -> Self {
        let prefix = self.full(&name.to_string());
        Self { prefix, ..self.clone() }
    }

    /// The same view, whose linear layers are to be rounded like this; `None` leaves them as they are. Tensors are handed
    /// out as they are in any case: rounding them is the layers' work.
    #[must_use]
    pub fn with_quant(&self, quant: Option<Quant>) -> Self {
        Self { quant, ..self.clone() }
    }

    /// The same view, which keeps what it hands out in `log` too, or what [`Weights::kept_in`] says of it: who knows a module's
    /// tensors can overwrite them.
    #[must_use]
    pub fn logged(&self, log: &TensorLog) -> Self {
        Self { log: Some(log.clone()), ..self.clone() }
    }

    /// How linear layers below this view are to be rounded.
    pub fn quant(&self) -> Option<Quant> {
        self.quant
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
    ///
    /// # Errors
    /// A tensor that is missing, has another shape, is no floating-point tensor, or holds NaN or infinite values.
    pub fn get(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.get_dtype(name, shape, self.inner.dtype)
    }

    /// Like [`Weights::get`], in a dtype of the caller's choice (norms and modulation stay f32).
    pub fn get_dtype(&self, name: &str, shape: impl Into<Shape>, dtype: DType) -> Result<Tensor> {
        self.ask(self.full(name), &shape.into(), Some(dtype))
    }

    /// Like [`Weights::get`], in the dtype that the checkpoint stores (large tables are converted row by row, when
    /// used). 8-bit floats are handed out as bf16, which holds all of them exactly.
    pub fn get_stored(&self, name: &str, shape: impl Into<Shape>) -> Result<Tensor> {
        self.ask(self.full(name), &shape.into(), None)
    }

    /// `None` stands for the stored dtype.
    fn ask(&self, name: String, shape: &Shape, dtype: Option<DType>) -> Result<Tensor> {
        let device = &self.inner.device;
        let tensor = match &self.inner.source {
            Source::Files(checkpoint) => checkpoint.get(&name, shape.dims(), dtype, device)?,
            Source::Tensors(tensors) => match tensors.get(&name) {
                Some(tensor) => Some(from_memory(&name, tensor, shape, dtype.unwrap_or(tensor.dtype()), device)?),
                None => None,
            },
            Source::Random(random) => {
                Some(random.get(&name, shape.dims(), dtype.unwrap_or(self.inner.dtype), device)?)
            }
            Source::Headers(checkpoint) => match checkpoint.check(&name, shape.dims())? {
                Some(stored) => Some(placeholder(shape, dtype.unwrap_or(stored), device)?),
                None => None,
            },
            Source::Recorder => Some(placeholder(shape, dtype.unwrap_or(self.inner.dtype), device)?),
        };
        let Some(tensor) = tensor else { return Err(self.missing(name)) };
        let asked = Asked { shape: shape.dims().to_vec(), bytes: shape.elem_count() * tensor.dtype().size_in_bytes() };
        if let Some(log) = &self.log {
            log.lock().unwrap_or_else(PoisonError::into_inner).push((name.clone(), tensor.clone()));
        }
        self.lock().insert(name, asked);
        Ok(tensor)
    }

    /// Whether the checkpoint has the tensor `name` below this view (recorders and random weights have none).
    pub fn contains(&self, name: &str) -> bool {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => checkpoint.contains(&self.full(name)),
            Source::Tensors(tensors) => tensors.contains_key(&self.full(name)),
            Source::Random(_) | Source::Recorder => false,
        }
    }

    /// Canonical names and shapes asked for so far, over all views.
    pub fn asked(&self) -> BTreeMap<String, Vec<usize>> {
        self.lock().iter().map(|(name, asked)| (name.clone(), asked.shape.clone())).collect()
    }

    /// Says that the tensor `name` below this view, which was handed out, is kept in another form: of so many bytes, and where
    /// that is tensors, in `tensors`.
    pub fn kept_in(&self, name: &str, bytes: usize, tensors: Vec<Tensor>) {
        let name = self.full(name);
        if let Some(asked) = self.lock().get_mut(&name) {
            asked.bytes = bytes;
        }
        if let Some(log) = &self.log {
            let mut log = log.lock().unwrap_or_else(PoisonError::into_inner);
            log.retain(|(logged, _)| *logged != name);
            log.extend(tensors.into_iter().map(|tensor| (name.clone(), tensor)));
        }
    }

    /// Bytes of everything handed out so far, over all views, or what [`Weights::kept_in`] says of it: of placeholders as
    /// many as the real tensors would have.
    pub fn bytes(&self) -> usize {
        self.lock().values().map(|asked| asked.bytes).sum()
    }

    /// [`Weights::bytes`] of the tensors whose canonical names start with `prefix`.
    pub fn bytes_of(&self, prefix: &str) -> usize {
        let asked = self.lock();
        asked.iter().filter(|(name, _)| name.starts_with(prefix)).map(|(_, asked)| asked.bytes).sum()
    }

    /// Canonical names and shapes of all tensors of the checkpoint.
    pub fn shapes(&self) -> Vec<(String, Vec<usize>)> {
        self.names().map(|name| (name.to_string(), self.shape_of(name).unwrap_or_default())).collect()
    }

    fn shape_of(&self, name: &str) -> Option<Vec<usize>> {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => checkpoint.info(name).map(|info| info.shape),
            Source::Tensors(tensors) => tensors.get(name).map(|tensor| tensor.dims().to_vec()),
            Source::Random(_) | Source::Recorder => None,
        }
    }

    /// Checks that every tensor of the checkpoint was asked for, and says what was loaded.
    pub fn finish(&self) -> Result<LoadReport> {
        let asked = self.lock();
        let mut names: Vec<String> =
            self.names().filter(|name| !asked.contains_key(*name)).map(str::to_string).collect();
        names.sort();
        if !names.is_empty() {
            return Err(Error::Unused { names });
        }
        let mut report = LoadReport::default();
        for (name, Asked { shape, .. }) in asked.iter() {
            let elements = shape.iter().product();
            let (dtype, bytes) = self.stored(name, elements);
            report.tensors += 1;
            report.parameters += elements;
            report.bytes += bytes;
            *report.dtypes.entry(dtype).or_default() += 1;
        }
        Ok(report)
    }

    /// Dtype and size that the tensor is stored with.
    fn stored(&self, name: &str, elements: usize) -> (String, usize) {
        let candle = |dtype: DType| (dtype.as_str().to_string(), elements * dtype.size_in_bytes());
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => checkpoint
                .info(name)
                .map(|info| (info.dtype.to_string().to_lowercase(), info.bytes))
                .unwrap_or_default(),
            Source::Tensors(tensors) => tensors.get(name).map(|tensor| candle(tensor.dtype())).unwrap_or_default(),
            Source::Random(_) | Source::Recorder => candle(self.inner.dtype),
        }
    }

    fn names(&self) -> Box<dyn Iterator<Item = &str> + '_> {
        match &self.inner.source {
            Source::Files(checkpoint) | Source::Headers(checkpoint) => Box::new(checkpoint.names()),
            Source::Tensors(tensors) => Box::new(tensors.keys().map(String::as_str)),
            Source::Random(_) | Source::Recorder => Box::new(std::iter::empty()),
        }
    }

    /// A tensor that nobody asked for yet is more likely to be the one that is meant.
    fn missing(&self, name: String) -> Error {
        let asked = self.lock();
        let unasked = self.names().filter(|name| !asked.contains_key(*name));
        let similar = most_similar(&name, unasked).or_else(|| most_similar(&name, self.names()));
        Error::Missing { name, similar }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Asked>> {
        // The table is consistent after every insertion, so a panic elsewhere does not spoil it.
        self.inner.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn full(&self, name: &str) -> String {
        if self.prefix.is_empty() { name.to_string() } else { format!("{}.{name}", self.prefix) }
    }
}

/// Zeros that take no memory.
fn placeholder(shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    Ok(Tensor::zeros((), dtype, device)?.broadcast_as(shape.clone())?)
}

fn from_memory(name: &str, tensor: &Tensor, shape: &Shape, dtype: DType, device: &Device) -> Result<Tensor> {
    if tensor.dims() != shape.dims() {
        let (found, expected) = (tensor.dims().to_vec(), shape.dims().to_vec());
        return Err(Error::Shape { name: name.to_string(), found, expected });
    }
    // Zero times NaN or infinity is NaN.
    if !(tensor * 0.0)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
        return Err(Error::NotFinite { name: name.to_string() });
    }
    Ok(tensor.to_device(device)?.to_dtype(dtype)?)
}
