//! From YUV 4:2:0 to planar RGB floats, by the matrix that a file names.
//!
//! Coefficients: ITU-T H.273, table 4 (<https://www.itu.int/rec/T-REC-H.273>). Chroma samples sit level with the left
//! column and halfway between two rows, as the encoder of this crate puts them; between them they are interpolated.

use crate::clip::Frame;
use crate::color::Yuv420;

/// How YUV was made from RGB.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Colour {
    /// Weights of red and blue in luma.
    kr: f32,
    kb: f32,
    /// Whether samples use all of 0..=255 instead of 16..=235 (luma) and 16..=240 (colour differences).
    full_range: bool,
}

impl Colour {
    /// For `matrix_coefficients` of ITU-T H.273; `None` where they are no weights of luma.
    pub(crate) fn new(matrix: u8, full_range: bool) -> Option<Self> {
        let (kr, kb) = match matrix {
            1 => (0.2126, 0.0722),
            4 => (0.30, 0.11),
            5 | 6 => (0.299, 0.114),
            7 => (0.212, 0.087),
            9 => (0.2627, 0.0593),
            _ => return None,
        };
        Some(Self { kr, kb, full_range })
    }

    /// `picture` in RGB, each value within 0..=1.
    pub(crate) fn to_rgb(self, picture: &Yuv420) -> Frame {
        let &Yuv420 { width, height, ref y, ref u, ref v } = picture;
        let mut data = vec![0.0; 3 * width * height]; // [3, H, W]
        let (red, rest) = data.split_at_mut(width * height);
        let (green, blue) = rest.split_at_mut(width * height);
        let mut chroma = [vec![0.0; width], vec![0.0; width]];
        for row in 0..height {
            upsample(u, width / 2, row, &mut chroma[0]);
            upsample(v, width / 2, row, &mut chroma[1]);
            let range = row * width..(row + 1) * width;
            let [red, green, blue] = [&mut *red, &mut *green, &mut *blue].map(|plane| &mut plane[range.clone()]);
            let colour = y[range].iter().zip(chroma[0].iter().zip(&chroma[1]));
            for ((red, (green, blue)), (&y, (&u, &v))) in red.iter_mut().zip(green.iter_mut().zip(blue)).zip(colour) {
                [*red, *green, *blue] = self.rgb(f32::from(y), u, v);
            }
        }
        Frame { width, height, data }
    }

    fn rgb(self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let Self { kr, kb, full_range } = self;
        let (black, luma, chroma) = if full_range { (0.0, 255.0, 255.0) } else { (16.0, 219.0, 224.0) };
        let (y, u, v) = ((y - black) / luma, (u - 128.0) / chroma, (v - 128.0) / chroma);
        let (red, blue) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|x| x.clamp(0.0, 1.0))
    }
}

/// One row of a chroma plane of `half` columns, at the places of luma: rows weigh 3/4 and 1/4, odd columns lie halfway
/// between two samples.
fn upsample(plane: &[u8], half: usize, row: usize, out: &mut [f32]) {
    let last = plane.len() / half - 1;
    let near = row / 2;
    let far = if row % 2 == 0 { near.saturating_sub(1) } else { (near + 1).min(last) };
    let (near, far) = (&plane[near * half..][..half], &plane[far * half..][..half]);
    let at = |x: usize| 0.75 * f32::from(near[x]) + 0.25 * f32::from(far[x]);
    let mut here = at(0);
    for (x, pair) in out.chunks_exact_mut(2).enumerate() {
        let next = at((x + 1).min(half - 1));
        pair[0] = here;
        pair[1] = 0.5 * (here + next);
        here = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 8-bit codes of colour bars (100 %) in BT.709 and BT.601, as in SMPTE RP 219-1 and ITU-R BT.1729.
    #[test]
    fn codes_of_colour_bars_are_pure_colours() {
        let bars = [
            (1, [63, 102, 240], [1.0, 0.0, 0.0]),
            (1, [173, 42, 26], [0.0, 1.0, 0.0]),
            (1, [32, 240, 118], [0.0, 0.0, 1.0]),
            (6, [81, 90, 240], [1.0, 0.0, 0.0]),
            (6, [145, 54, 34], [0.0, 1.0, 0.0]),
            (6, [41, 240, 110], [0.0, 0.0, 1.0]),
            (6, [235, 128, 128], [1.0, 1.0, 1.0]),
            (1, [16, 128, 128], [0.0, 0.0, 0.0]),
        ];
        for (matrix, [y, u, v], rgb) in bars {
            let picture = Yuv420 { width: 4, height: 2, y: vec![y; 8], u: vec![u; 2], v: vec![v; 2] };
            let frame = Colour::new(matrix, false).unwrap().to_rgb(&picture);
            for (plane, wanted) in frame.planes().iter().zip(rgb) {
                for value in *plane {
                    assert!((value - wanted).abs() < 0.01, "{matrix} {y} {u} {v}: {value} for {wanted}");
                }
            }
        }
        let grey = Yuv420 { width: 2, height: 2, y: vec![51; 4], u: vec![128], v: vec![128] };
        let frame = Colour::new(1, true).unwrap().to_rgb(&grey);
        assert!(frame.data.iter().all(|x| (x - 0.2).abs() < 1e-6), "{:?}", frame.data);
        assert_eq!(Colour::new(0, false), None);
    }

    /// A ramp survives the way there and back but for rounding: the places of chroma are those of the encoder.
    #[test]
    fn a_ramp_comes_back() {
        let (width, height) = (32, 24);
        let ramp = |x: usize, y: usize, c: usize| 0.2 + 0.5 * [x, y, x + y][c] as f32 / (width + height) as f32;
        let planes = (0..3).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| ramp(x, y, c))));
        let frame = Frame { width, height, data: planes.collect() };
        let mut picture = Yuv420::new(width, height);
        picture.fill(&frame);
        let back = Colour::new(1, false).unwrap().to_rgb(&picture);
        // Half a code of luma, and half a code of each colour difference times its weight, at most 1.86.
        let bound = 0.5 / 219.0 + 1.86 * 0.5 / 224.0;
        for y in 1..height - 1 {
            for x in 1..width - 1 {
                for c in 0..3 {
                    let at = c * width * height + y * width + x;
                    let error = (back.data[at] - frame.data[at]).abs();
                    assert!(error < bound, "{error} at {x}, {y}, {c}");
                }
            }
        }
    }
}
