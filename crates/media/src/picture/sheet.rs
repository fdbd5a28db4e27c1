//! Contact sheets: many pictures on one.

use super::{Picture, check_size};
use crate::error::{MediaError, Result};

/// Lays pictures out in rows of `columns`, from the left, with `gap` black pixels between them. Every cell is as large as
/// the largest picture; a smaller one is centred in its cell. There are no more columns than pictures.
///
/// # Errors
/// There is no picture or no column, a picture's `rgb` does not have the length of its size, or the sheet would be
/// longer than 32768 pixels a side.
pub fn contact_sheet(pictures: &[Picture], columns: usize, gap: usize) -> Result<Picture> {
    if pictures.is_empty() || columns == 0 {
        return Err(MediaError::ContactSheet { pictures: pictures.len(), columns });
    }
    pictures.iter().try_for_each(Picture::check)?;
    let columns = columns.min(pictures.len());
    let cell_w = pictures.iter().map(|picture| picture.width).max().unwrap_or(0);
    let cell_h = pictures.iter().map(|picture| picture.height).max().unwrap_or(0);
    let side = |cells: usize, size: usize| cells.saturating_mul(size).saturating_add(gap.saturating_mul(cells - 1));
    let (width, height) = (side(columns, cell_w), side(pictures.len().div_ceil(columns), cell_h));
    check_size(width, height)?;
    let mut rgb = vec![0; 3 * width * height];
    for (index, picture) in pictures.iter().enumerate() {
        let left = index % columns * (cell_w + gap) + (cell_w - picture.width) / 2;
        let top = index / columns * (cell_h + gap) + (cell_h - picture.height) / 2;
        for (row, source) in picture.rgb.chunks_exact(3 * picture.width).enumerate() {
            let start = 3 * ((top + row) * width + left);
            rgb[start..start + source.len()].copy_from_slice(source);
        }
    }
    Ok(Picture { width, height, rgb })
}
