//! Removes the repeated rows of a text's padding.
//!
//! Rows past a prompt are not masked, and are all the same: so are the keys and values made of them. Attending to
//! `n` equal keys is attending to one of them whose score is larger by `ln n`, since `n · eˢ = e^(s + ln n)`.

use candle_core::{D, Result, Tensor};

/// Returns the first `R` rows of `context [B, S, C]`, the last of which represents all later rows, which equal it in every
/// clip; and the bias of the scores of the `R` keys, f32 `[1, 1, 1, R]`, unless it is zero.
pub(super) fn without_repetitions(context: &Tensor) -> Result<(Tensor, Option<Tensor>)> {
    let rows = context.dim(1)?;
    let last = context.narrow(1, rows - 1, 1)?;
    let differs = context.broadcast_ne(&last)?.max(D::Minus1)?.max(0)?.to_vec1::<u8>()?; // [S]
    let kept = differs.iter().rposition(|&differs| differs != 0).map_or(1, |row| rows.min(row + 2));
    if kept == rows {
        return Ok((context.clone(), None));
    }
    let repetitions = (rows - kept + 1) as f32;
    let bias = (0..kept).map(|row| if row + 1 == kept { repetitions.ln() } else { 0.0 });
    let bias = Tensor::from_iter(bias, context.device())?.reshape((1, 1, 1, kept))?;
    Ok((context.narrow(1, 0, kept)?, Some(bias)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    fn check(context: &[&[f32]], kept: usize, bias: Option<f32>) {
        let rows = context[0].len();
        let context = Tensor::new(context.concat(), &Device::Cpu).unwrap().reshape((context.len(), rows, 1)).unwrap();
        let (found, found_bias) = without_repetitions(&context).unwrap();
        let bits = |x: &Tensor| -> Vec<u32> {
            x.flatten_all().unwrap().to_vec1::<f32>().unwrap().into_iter().map(f32::to_bits).collect()
        };
        assert_eq!(bits(&found), bits(&context.narrow(1, 0, kept).unwrap()));
        let mut expected = vec![0.0; kept];
        expected[kept - 1] = bias.unwrap_or_default();
        let found_bias = found_bias.map(|bias| bias.flatten_all().unwrap().to_vec1::<f32>().unwrap());
        assert_eq!(found_bias, bias.map(|_| expected));
    }

    #[test]
    fn the_longest_text_and_one_row_are_kept() {
        check(&[&[1.0, 2.0, 0.0, 0.0, 0.0]], 3, Some(3f32.ln()));
        check(&[&[1.0, 0.0, 0.0, 0.0, 0.0], &[1.0, 2.0, 3.0, 5.0, 5.0]], 4, Some(2f32.ln()));
        check(&[&[0.0, 0.0, 0.0]], 1, Some(3f32.ln()));
        check(&[&[1.0, 0.0, 2.0]], 3, None);
        check(&[&[1.0]], 1, None);
        check(&[&[1.0, f32::NAN, f32::NAN]], 3, None);
    }
}
