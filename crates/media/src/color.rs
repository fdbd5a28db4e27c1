//! Conversion of planar RGB floats to the encoders' input: 8-bit RGB, and YUV 4:2:0 with the BT.709 matrix in limited range.
//!
//! The matrix is ITU-R BT.709-6, items 3.2 to 3.5 (<https://www.itu.int/rec/R-REC-BT.709>): luma in 16..=235, colour
//! differences in 16..=240 around 128. Chroma samples have H.264's default position (`chroma_sample_loc_type` 0, ITU-T H.264
//! figure E-1): level with the left column, halfway between the two rows.

use crate::clip::{ClipSpec, Frame};

const KR: f32 = 0.2126;
const KB: f32 = 0.0722;
const KG: f32 = 1.0 - KR - KB;

/// A picture in YUV 4:2:0 with even width and height.
pub(crate) struct Yuv420 {
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// `[H, W]`
    pub(crate) y: Vec<u8>,
    /// `[H/2, W/2]`
    pub(crate) u: Vec<u8>,
    /// `[H/2, W/2]`
    pub(crate) v: Vec<u8>,
}

impl Yuv420 {
    /// Returns a picture for frames of `width`×`height`; odd sizes are rounded up to even ones.
    pub(crate) fn new(width: usize, height: usize) -> Self {
        let (width, height) = (width.next_multiple_of(2), height.next_multiple_of(2));
        let quarter = width * height / 4;
        Self { width, height, y: vec![0; width * height], u: vec![0; quarter], v: vec![0; quarter] }
    }

    /// Returns the note that an odd size of `spec` was rounded.
    pub(crate) fn size_notes(&self, spec: &ClipSpec) -> Vec<String> {
        let (width, height) = (self.width, self.height);
        if (width, height) == (spec.width, spec.height) {
            return Vec::new();
        }
        vec![format!(
            "{}×{} is stored as {width}×{height} with a repeated edge: video needs even sizes",
            spec.width, spec.height
        )]
    }

    /// Converts `frame`. If the picture is larger by one, the last column or row is repeated.
    pub(crate) fn fill(&mut self, frame: &Frame) {
        let &mut Self { width, height, .. } = self;
        let planes = frame.planes();
        for row in 0..height {
            let source = rows(planes, frame.width, row.min(frame.height - 1));
            fill_luma(&mut self.y[row * width..][..width], source);
        }
        for row in 0..height / 2 {
            let upper = rows(planes, frame.width, 2 * row);
            let lower = rows(planes, frame.width, (2 * row + 1).min(frame.height - 1));
            let range = row * (width / 2)..(row + 1) * (width / 2);
            fill_chroma(&mut self.u[range.clone()], &mut self.v[range], upper, lower);
        }
    }
}

/// Returns `frame` as interleaved 8-bit RGB, `[H, W, 3]`.
pub(crate) fn rgb8(frame: &Frame) -> Vec<u8> {
    let [red, green, blue] = frame.planes();
    let mut out = Vec::with_capacity(frame.data.len());
    for ((&r, &g), &b) in red.iter().zip(green).zip(blue) {
        out.extend([r, g, b].map(|x| to_u8(x.clamp(0.0, 1.0) * 255.0)));
    }
    out
}

fn rows(planes: [&[f32]; 3], width: usize, row: usize) -> [&[f32]; 3] {
    planes.map(|plane| &plane[row * width..][..width])
}

fn fill_luma(out: &mut [u8], [red, green, blue]: [&[f32]; 3]) {
    for (out, ((&r, &g), &b)) in out.iter_mut().zip(red.iter().zip(green).zip(blue)) {
        *out = to_u8(16.0 + 219.0 * luma([r, g, b].map(|x| x.clamp(0.0, 1.0))));
    }
    repeat_last(out, red.len());
}

fn fill_chroma(u: &mut [u8], v: &mut [u8], upper: [&[f32]; 3], lower: [&[f32]; 3]) {
    let last = upper[0].len() - 1;
    for (column, (u, v)) in u.iter_mut().zip(v).enumerate() {
        let (left, middle, right) = ((2 * column).saturating_sub(1), 2 * column, (2 * column + 1).min(last));
        let [r, g, b] = std::array::from_fn(|c| {
            let at = |x: usize| upper[c][x].clamp(0.0, 1.0) + lower[c][x].clamp(0.0, 1.0);
            (at(left) + 2.0 * at(middle) + at(right)) / 8.0
        });
        let luma = luma([r, g, b]);
        *u = to_u8(128.0 + 224.0 * (b - luma) / (2.0 * (1.0 - KB)));
        *v = to_u8(128.0 + 224.0 * (r - luma) / (2.0 * (1.0 - KR)));
    }
}

fn luma([r, g, b]: [f32; 3]) -> f32 {
    KR * r + KG * g + KB * b
}

fn repeat_last(row: &mut [u8], filled: usize) {
    let last = row[filled - 1];
    row[filled..].fill(last);
}

/// Rounds to the nearest; the value is within 0..=255 by construction.
pub(crate) fn to_u8(x: f32) -> u8 {
    (x + 0.5) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flat(width: usize, height: usize, rgb: [f32; 3]) -> Frame {
        let data = rgb.iter().flat_map(|&x| vec![x; width * height]).collect();
        Frame { width, height, data }
    }

    /// 8-bit BT.709 codes of the primaries and greys, as in the colour bars of SMPTE RP 219-1 (100 %).
    #[test]
    fn flat_colours_have_the_standard_codes() {
        let cases = [
            ([0.0, 0.0, 0.0], [16, 128, 128]),
            ([1.0, 1.0, 1.0], [235, 128, 128]),
            ([1.0, 0.0, 0.0], [63, 102, 240]),
            ([0.0, 1.0, 0.0], [173, 42, 26]),
            ([0.0, 0.0, 1.0], [32, 240, 118]),
            ([2.0, -1.0, 0.0], [63, 102, 240]),
        ];
        for (rgb, [y, u, v]) in cases {
            let mut yuv = Yuv420::new(5, 3);
            yuv.fill(&flat(5, 3, rgb));
            assert_eq!((yuv.width, yuv.height), (6, 4));
            assert_eq!((yuv.y, yuv.u, yuv.v), (vec![y; 24], vec![u; 6], vec![v; 6]), "{rgb:?}");
        }
    }

    #[test]
    fn chroma_sits_on_the_left_column() {
        // One blue column at x = 2 weighs 1/2 in the chroma sample above it and nothing in its neighbours.
        let mut frame = flat(6, 2, [0.0; 3]);
        for row in 0..2 {
            frame.data[2 * 12 + row * 6 + 2] = 1.0;
        }
        let mut yuv = Yuv420::new(6, 2);
        yuv.fill(&frame);
        assert_eq!(yuv.u, [128, 184, 128]);
        // A blue column at x = 1 lies between two samples and weighs 1/4 in both.
        let mut frame = flat(6, 2, [0.0; 3]);
        for row in 0..2 {
            frame.data[2 * 12 + row * 6 + 1] = 1.0;
        }
        yuv.fill(&frame);
        assert_eq!(yuv.u, [156, 156, 128]);
    }

    #[test]
    fn rgb8_rounds_and_clamps() {
        let frame = Frame { width: 2, height: 1, data: vec![-1.0, 0.5, 0.2, 1.0, 2.0, 0.001] };
        assert_eq!(rgb8(&frame), [0, 51, 255, 128, 255, 0]);
    }
}
