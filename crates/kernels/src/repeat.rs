//! Repeated channels and a pixel shuffle: the shortcut beside an upsampling layer of the Wan 2.2 VAE.

use crate::profile::{Work, timed};
use crate::{cuda, on_cuda};
use candle_core::{Result, Tensor, bail};

/// Sizes of [`repeat_channels`].
#[derive(Debug, Clone, Copy)]
pub struct Repeat {
    /// Channels of the result.
    pub outputs: usize,
    /// Frames that one frame becomes.
    pub frames: usize,
    /// Rows that one row becomes, and columns that one column becomes.
    pub side: usize,
}

/// Repeats the channels of `x [B, H, W, C]` and shuffles them into frames, rows and columns; returns frame `index` of the
/// result, `[B, H·side, W·side, outputs]`. Repeated channel `r` is channel `r / repeats` of `x`, and `r` counts outputs,
/// frames, rows and columns, the last fastest.
pub fn repeat_channels(x: &Tensor, repeat: Repeat, index: usize) -> Result<Tensor> {
    let Repeat { outputs, frames, side } = repeat;
    let (_, _, _, c) = x.dims4()?;
    let repeated = outputs * frames * side * side;
    if c == 0 || !repeated.is_multiple_of(c) || index >= frames {
        bail!("repeat_channels: {c} channels do not make frame {index} of {repeat:?}");
    }
    timed("repeat_channels", Work::Moves, || {
        on_cuda!(x, cuda::repeat_channels(x, repeat, index));
        taken(x, repeat, index)
    })
}

/// Takes the channels of every position directly from `x`, so that no tensor is as large as all repetitions.
fn taken(x: &Tensor, repeat: Repeat, index: usize) -> Result<Tensor> {
    let Repeat { outputs, frames, side } = repeat;
    let (b, h, w, c) = x.dims4()?;
    let repeats = outputs * frames * side * side / c;
    let sources = |row: usize, column: usize| -> Vec<u32> {
        (0..outputs).map(|o| ((((o * frames + index) * side + row) * side + column) / repeats) as u32).collect()
    };
    let mut known: Vec<(Vec<u32>, Tensor)> = Vec::new();
    let mut taken = |row, column| {
        let sources = sources(row, column);
        if let Some((_, found)) = known.iter().find(|(of, _)| *of == sources) {
            return Ok(found.clone());
        }
        let places = Tensor::new(sources.as_slice(), x.device())?;
        let found = x.contiguous()?.index_select(&places, 3)?; // [B, H, W, outputs]
        known.push((sources, found.clone()));
        Ok(found)
    };
    let mut rows = Vec::with_capacity(side);
    for row in 0..side {
        let columns: Vec<Tensor> = (0..side).map(|column| taken(row, column)).collect::<Result<_>>()?;
        rows.push(Tensor::stack(&columns, 3)?); // [B, H, W, side, outputs]
    }
    drop(known); // before as much is needed again
    Tensor::stack(&rows, 2)?.reshape((b, h * side, w * side, outputs))
}
