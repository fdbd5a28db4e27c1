//! Conversion of YUV to planar RGB floats, with the matrix and the positions of chroma samples that a file names.
//!
//! Coefficients: ITU-T H.273, table 4 (<https://www.itu.int/rec/T-REC-H.273>); positions: ITU-T H.264, figure E-1. Chroma is
//! interpolated linearly, as in zimg's `bilinear`.

use crate::clip::Frame;

/// A picture in YUV.
#[derive(Debug)]
pub(crate) struct Yuv {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// The number of bits per sample, 8 to 16.
    pub(crate) depth: u32,
    /// The columns and rows of luma per chroma sample, as powers of 2: `[1, 1]` is 4:2:0.
    pub(crate) chroma_shift: [u32; 2],
    /// Whether chroma samples are in the middle of their columns and rows, rather than level with the first one.
    pub(crate) centred: [bool; 2],
    /// The luma plane `[H, W]` and the two chroma planes `[h, w]`.
    pub(crate) planes: [Vec<u16>; 3],
}

/// The default position of chroma samples in H.264: level with the left column, halfway between two rows.
pub(crate) const LEFT: [bool; 2] = [false, true];

impl Yuv {
    /// Returns the width and height of a chroma plane.
    pub(crate) fn chroma_size(width: usize, height: usize, [columns, rows]: [u32; 2]) -> (usize, usize) {
        (width.div_ceil(1 << columns), height.div_ceil(1 << rows))
    }
}

/// The matrix and the range of YUV.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Colour {
    /// The weights of red and blue in luma.
    kr: f32,
    kb: f32,
    /// Whether samples use all codes, rather than (at 8 bits) 16..=235 for luma and 16..=240 for colour differences.
    full_range: bool,
}

impl Colour {
    /// Returns the colour for `matrix_coefficients` of ITU-T H.273, or `None` if these do not define weights of luma.
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

    /// Returns the colour with the same matrix and this range.
    #[cfg(not(feature = "ffmpeg"))]
    pub(crate) fn of_range(self, full_range: bool) -> Self {
        Self { full_range, ..self }
    }

    /// Converts `picture` to RGB, each value within 0..=1.
    pub(crate) fn to_rgb(self, picture: &Yuv) -> Frame {
        let &Yuv { width, height, depth, chroma_shift, centred, ref planes } = picture;
        let (w, h) = Yuv::chroma_size(width, height, chroma_shift);
        let columns: Vec<Place> = (0..width).map(|x| Place::of(x, chroma_shift[0], centred[0], w)).collect();
        let scale = Scale::new(depth, self.full_range);
        let mut data = vec![0.0; 3 * width * height]; // [3, H, W]
        let (red, rest) = data.split_at_mut(width * height);
        let (green, blue) = rest.split_at_mut(width * height);
        for y in 0..height {
            let row = Place::of(y, chroma_shift[1], centred[1], h);
            let [u, v] =
                [&planes[1], &planes[2]].map(|plane| [row.first, row.second].map(|row| &plane[row * w..][..w]));
            let luma = &planes[0][y * width..][..width];
            for (x, (&luma, column)) in luma.iter().zip(&columns).enumerate() {
                let [u, v] = [u, v].map(|[upper, lower]| row.mix(column.sample(upper), column.sample(lower)));
                let at = y * width + x;
                [red[at], green[at], blue[at]] =
                    self.rgb(scale.luma(f32::from(luma)), scale.chroma(u), scale.chroma(v));
            }
        }
        Frame { width, height, data }
    }

    /// Converts luma within 0..=1 and colour differences within -0.5..=0.5 to RGB.
    fn rgb(self, y: f32, u: f32, v: f32) -> [f32; 3] {
        let Self { kr, kb, .. } = self;
        let (red, blue) = (y + 2.0 * (1.0 - kr) * v, y + 2.0 * (1.0 - kb) * u);
        let green = (y - kr * red - kb * blue) / (1.0 - kr - kb);
        [red, green, blue].map(|x| x.clamp(0.0, 1.0))
    }
}

/// The meaning of the codes of a sample.
struct Scale {
    black: f32,
    luma: f32,
    grey: f32,
    chroma: f32,
}

impl Scale {
    fn new(depth: u32, full_range: bool) -> Self {
        let unit = (1_u32 << (depth - 8)) as f32;
        let largest = ((1_u32 << depth) - 1) as f32;
        if full_range {
            Self { black: 0.0, luma: largest, grey: 128.0 * unit, chroma: largest }
        } else {
            Self { black: 16.0 * unit, luma: 219.0 * unit, grey: 128.0 * unit, chroma: 224.0 * unit }
        }
    }

    fn luma(&self, code: f32) -> f32 {
        (code - self.black) / self.luma
    }

    fn chroma(&self, code: f32) -> f32 {
        (code - self.grey) / self.chroma
    }
}

/// A place between two chroma samples.
struct Place {
    first: usize,
    second: usize,
    /// The weight of the second sample.
    weight: f32,
}

impl Place {
    /// Returns the position of luma column or row `at` among `count` chroma samples.
    fn of(at: usize, shift: u32, centred: bool, count: usize) -> Self {
        let step = (1_u32 << shift) as f32;
        let offset = if centred { (step - 1.0) / 2.0 } else { 0.0 };
        let place = ((at as f32 - offset) / step).max(0.0);
        let first = (place as usize).min(count - 1);
        Self { first, second: (first + 1).min(count - 1), weight: place - first as f32 }
    }

    fn sample(&self, row: &[u16]) -> f32 {
        self.mix(f32::from(row[self.first]), f32::from(row[self.second]))
    }

    fn mix(&self, first: f32, second: f32) -> f32 {
        first + self.weight * (second - first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::color::Yuv420;

    fn widened(picture: &Yuv420) -> Yuv {
        let planes = [&picture.y, &picture.u, &picture.v].map(|plane| plane.iter().map(|&x| u16::from(x)).collect());
        let (width, height) = (picture.width, picture.height);
        Yuv { width, height, depth: 8, chroma_shift: [1, 1], centred: LEFT, planes }
    }

    /// The 8-bit codes are those of colour bars (100 %) in BT.709 and BT.601, SMPTE RP 219-1 and ITU-R BT.1729.
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
        for (matrix, codes, rgb) in bars {
            for (depth, chroma_shift) in [(8, [1, 1]), (10, [1, 0]), (16, [0, 0]), (12, [2, 2])] {
                let (w, h) = Yuv::chroma_size(5, 3, chroma_shift);
                let [y, u, v] = codes.map(|code: u16| code << (depth - 8));
                let planes = [vec![y; 15], vec![u; w * h], vec![v; w * h]];
                let picture = Yuv { width: 5, height: 3, depth, chroma_shift, centred: LEFT, planes };
                let frame = Colour::new(matrix, false).unwrap().to_rgb(&picture);
                for (plane, wanted) in frame.planes().iter().zip(rgb) {
                    let close = |value: &f32| (value - wanted).abs() < 0.01;
                    assert!(plane.iter().all(close), "{matrix} {codes:?} of {depth} bits: {plane:?} for {wanted}");
                }
            }
        }
        let grey = Yuv420 { width: 2, height: 2, y: vec![51; 4], u: vec![128], v: vec![128] };
        let frame = Colour::new(1, true).unwrap().to_rgb(&widened(&grey));
        assert!(frame.data.iter().all(|x| (x - 0.2).abs() < 1e-6), "{:?}", frame.data);
        assert_eq!(Colour::new(0, false), None);
    }

    /// A ramp survives the round trip but for rounding: the positions of chroma are those of the encoder.
    #[test]
    fn a_ramp_comes_back() {
        let (width, height) = (32, 24);
        let ramp = |x: usize, y: usize, c: usize| 0.2 + 0.5 * [x, y, x + y][c] as f32 / (width + height) as f32;
        let planes = (0..3).flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| ramp(x, y, c))));
        let frame = Frame { width, height, data: planes.collect() };
        let mut picture = Yuv420::new(width, height);
        picture.fill(&frame);
        let back = Colour::new(1, false).unwrap().to_rgb(&widened(&picture));
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
