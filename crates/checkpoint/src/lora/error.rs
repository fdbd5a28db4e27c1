//! [`LoraError`]: why a LoRA cannot be used.

use crate::error::did_you_mean;
use std::path::PathBuf;

/// Why a LoRA cannot be used, with the key that is the reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoraError {
    /// No tensor of the file is one of a LoRA.
    #[error("{}: it is no LoRA: none of its {tensors} tensors belongs to one", .path.display())]
    None {
        /// The file.
        path: PathBuf,
        /// The number of its tensors.
        tensors: usize,
    },
    /// The file was given as a model.
    #[error("{}: it is a LoRA, not a model", .path.display())]
    NotAModel {
        /// The file.
        path: PathBuf,
    },
    /// A key that ends in nothing that a LoRA has.
    #[error("{}: key `{key}` is of no known kind", .path.display())]
    Suffix {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// A kind of change that is known, but not made.
    #[error("{}: key `{key}` belongs to {what}, which is not read", .path.display())]
    Refused {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The kind.
        what: &'static str,
    },
    /// The model has no module of that name.
    #[error(
        "{}: key `{key}` is for a module `{module}` that the model does not have{}",
        .path.display(),
        did_you_mean(.similar.as_ref())
    )]
    Module {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The module, as the file calls it.
        module: String,
        /// The closest name that the model has.
        similar: Option<String>,
    },
    /// The module has no tensor of the kind that the key changes.
    #[error("{}: key `{key}` changes `{tensor}`, which the model does not have", .path.display())]
    Tensor {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The canonical name of the tensor.
        tensor: String,
    },
    /// The key makes sense only beside another one.
    #[error("{}: key `{key}` needs `{missing}` beside it, which is missing", .path.display())]
    Half {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The key that is missing.
        missing: String,
    },
    /// Two factors do not fit each other.
    #[error(
        "{}: the ranks of `{first}` {first_shape:?} and `{second}` {second_shape:?} differ",
        .path.display()
    )]
    Rank {
        /// The file.
        path: PathBuf,
        /// The key of the first factor.
        first: String,
        /// Its shape.
        first_shape: Vec<usize>,
        /// The key of the second factor.
        second: String,
        /// Its shape.
        second_shape: Vec<usize>,
    },
    /// The change has another shape than the tensor.
    #[error("{}: key `{key}` makes a change of shape {found:?}, but `{tensor}` has {expected:?}", .path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
        /// The shape of the change.
        found: Vec<usize>,
        /// The canonical name of the tensor.
        tensor: String,
        /// The tensor's shape.
        expected: Vec<usize>,
    },
    /// A number, or a file's description of one, that cannot be used.
    #[error("{}: {subject} {problem}", .path.display())]
    Value {
        /// The file.
        path: PathBuf,
        /// The key or the field.
        subject: String,
        /// The reason.
        problem: String,
    },
    /// Two keys are for the same change.
    #[error("{}: keys `{first}` and `{second}` are both for `{tensor}`", .path.display())]
    Twice {
        /// The file.
        path: PathBuf,
        /// The first key.
        first: String,
        /// The second key.
        second: String,
        /// The tensor that both change.
        tensor: String,
    },
    /// The file has keys of a second transformer.
    #[error("{}: key `{key}` is for a second transformer, and the model has one", .path.display())]
    SecondExpert {
        /// The file.
        path: PathBuf,
        /// The key.
        key: String,
    },
    /// The strength is no number.
    #[error("{}: strength {strength} is no number", .path.display())]
    Strength {
        /// The file.
        path: PathBuf,
        /// The strength.
        strength: f32,
    },
    /// The model asked for no tensor of that name.
    #[error("a LoRA changes `{tensor}`, which the model does not use")]
    Unused {
        /// The canonical name.
        tensor: String,
    },
    /// The changed tensor holds NaN or infinite values.
    #[error("`{tensor}` is NaN or infinite, or too large for {dtype}, with the change of {}", .path.display())]
    Overflow {
        /// The file of the first LoRA that changes it.
        path: PathBuf,
        /// The canonical name.
        tensor: String,
        /// The dtype that the values do not fit in.
        dtype: &'static str,
    },
}

impl LoraError {
    /// Returns what the user can do about the error.
    pub(crate) fn hint(&self) -> &'static str {
        match self {
            Self::None { .. } => "give a model as the model, and a LoRA as a LoRA",
            Self::NotAModel { .. } => "give the model, and this file as a LoRA",
            Self::Suffix { .. } => "a key that is left out would change the result: take a file without it",
            Self::Refused { .. } => "take a file of plain pairs (lora_down and lora_up), LoHa, LoKr or differences",
            Self::Module { .. } | Self::Tensor { .. } => "the LoRA was made for another model",
            Self::Shape { .. } => "the LoRA was made for a model of another size",
            Self::Half { .. } => "the file is incomplete: download it again",
            Self::Rank { .. } | Self::Twice { .. } => "the file was put together wrongly: make or download it again",
            Self::Value { .. } => "the file is damaged: download it again",
            Self::SecondExpert { .. } => "use it with a model of two transformers",
            Self::Strength { .. } => "strengths are numbers such as 1 or 0.7",
            Self::Unused { .. } => "the LoRA was made for another model or variant",
            Self::Overflow { .. } => "use a smaller strength, or bf16 or f32",
        }
    }
}
