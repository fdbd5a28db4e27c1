//! The arithmetic of changes, in f32 on the CPU.

use super::changes::{Change, Changes};
use super::error::LoraError;
use super::module::Delta;
use super::stored::Factor;
use crate::{Error, Result};
use candle_core::{DType, Device, Tensor};

impl Change {
    /// Returns whether the change is one of low rank, which [`Change::low_rank`] returns.
    pub fn is_low_rank(&self) -> bool {
        matches!(self.piece.delta, Delta::Single(Factor::Product(_))) && self.piece.magnitude.is_none()
    }

    /// Returns the bytes of the pair that [`Change::low_rank`] returns.
    pub fn low_rank_bytes(&self) -> usize {
        let outputs = self.shape.first().copied().unwrap_or(1);
        let inputs = self.shape.iter().skip(1).product::<usize>();
        self.piece.delta.rank().unwrap_or_default() * (outputs + inputs) * size_of::<f32>()
    }

    /// Returns a plain pair, f32 on the CPU: `down [r, in]` and `up [out, r]`, which is multiplied by strength · alpha / r
    /// already, so that the changed layer is `W·x + up·(down·x)`. `None` if the change is of another kind.
    ///
    /// # Errors
    /// NaN and infinite values, and a file that cannot be read.
    pub fn low_rank(&self) -> Result<Option<(Tensor, Tensor)>> {
        match &self.piece.delta {
            Delta::Single(Factor::Product(product)) if self.piece.magnitude.is_none() => {
                let (down, up) = product.pair()?;
                Ok(Some((down, (up * self.scale())?)))
            }
            _ => Ok(None),
        }
    }

    /// Returns the tensor with this change alone. `original` is f32, on the CPU, and has the shape of the model's tensor.
    ///
    /// # Errors
    /// NaN and infinite values, and a file that cannot be read.
    pub fn apply(&self, original: &Tensor) -> Result<Tensor> {
        Ok((original + self.delta(original)?)?)
    }

    /// Returns the difference that is added to the unchanged tensor.
    fn delta(&self, original: &Tensor) -> Result<Tensor> {
        if let Some((down, up)) = self.low_rank()? {
            return Ok(up.matmul(&down)?.reshape(self.shape.as_slice())?);
        }
        let matrix = match &self.piece.delta {
            Delta::Single(factor) => factor.matrix()?,
            Delta::Hadamard([first, second]) => (first.matrix()? * second.matrix()?)?,
            Delta::Kronecker([first, second]) => kronecker(&first.matrix()?, &second.matrix()?)?,
        };
        let matrix = matrix.reshape(self.shape.as_slice())?;
        let Some(magnitude) = &self.piece.magnitude else { return Ok((matrix * self.scale())?) };
        // DoRA: the changed weight has the norms that the file gives, as in
        // <https://github.com/huggingface/peft/blob/v0.17.0/src/peft/tuners/lora/dora.py>.
        let changed = (original + (matrix * f64::from(self.piece.factor))?)?;
        let magnitude = magnitude.read()?;
        let axes = self.shape.len();
        let per_output = magnitude.dim(0)? == self.shape.first().copied().unwrap_or(1);
        let kept = usize::from(!per_output);
        let mut norms = changed.sqr()?;
        for axis in (0..axes).filter(|axis| *axis != kept) {
            norms = norms.sum_keepdim(axis)?;
        }
        let norms = norms.sqrt()?;
        // A row of zeros has no direction and stays one.
        let norms = norms.eq(0.0)?.where_cond(&norms.ones_like()?, &norms)?;
        let mut per_axis = vec![1; axes];
        if let Some(size) = per_axis.get_mut(kept) {
            *size = magnitude.elem_count();
        }
        let normed = changed.broadcast_mul(&magnitude.reshape(per_axis)?.div(&norms)?)?;
        Ok(((normed - original)? * f64::from(self.strength))?)
    }

    fn scale(&self) -> f64 {
        f64::from(self.strength) * f64::from(self.piece.factor)
    }
}

impl Changes {
    /// Returns the tensor `name` with all its changes, each computed from `original`, which is f32, on the CPU, and has the
    /// shape of the model's tensor. The result is rounded once, to `dtype`.
    ///
    /// # Errors
    /// NaN and infinite values, and a file that cannot be read.
    pub fn apply(&self, name: &str, original: &Tensor, dtype: DType) -> Result<Tensor> {
        let mut tensor = original.clone();
        for change in self.of(name) {
            tensor = (tensor + change.delta(original)?)?;
        }
        let tensor = tensor.to_dtype(dtype)?;
        // Zero times NaN or infinity is NaN.
        if !(&tensor * 0.0)?.to_dtype(DType::F32)?.sum_all()?.to_scalar::<f32>()?.is_finite() {
            let path = self.of(name).first().map(|change| change.piece.delta.key().path()).unwrap_or_default();
            let (tensor, dtype) = (name.to_string(), dtype.as_str());
            return Err(Error::from(LoraError::Overflow { path, tensor, dtype }));
        }
        Ok(tensor)
    }

    /// Does the same as [`Changes::apply`] with a tensor that goes to `device` then.
    pub(crate) fn apply_on(&self, name: &str, original: &Tensor, dtype: DType, device: &Device) -> Result<Tensor> {
        Ok(self.apply(name, original, dtype)?.to_device(device)?)
    }
}

/// The Kronecker product of two matrices.
fn kronecker(first: &Tensor, second: &Tensor) -> Result<Tensor> {
    let ((a, b), (c, d)) = (first.dims2()?, second.dims2()?);
    let product = first.reshape((a, 1, b, 1))?.broadcast_mul(&second.reshape((1, c, 1, d))?)?;
    Ok(product.reshape((a * c, b * d))?)
}
