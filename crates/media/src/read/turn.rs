//! Turning pictures by quarters and mirroring them by the display matrix of a track (ISO/IEC 14496-12, 6.2.2; `FFmpeg` returns
//! the same nine numbers).

use crate::clip::Frame;

/// The transformation from a stored picture to the shown one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn {
    /// Whether rows become columns, before the mirroring.
    transpose: bool,
    /// Whether left becomes right in the shown picture.
    flip_x: bool,
    /// Whether top becomes bottom in the shown picture.
    flip_y: bool,
}

impl Turn {
    /// The identity.
    pub(crate) const NONE: Self = Self { transpose: false, flip_x: false, flip_y: false };

    /// Returns the turn of the matrix `a b u c d v x y w`, which maps `(p, q)` to `(a p + c q + x, b p + d q + y)`, or `None` for
    /// an angle other than quarters. Scale and position are ignored.
    pub(crate) fn from_matrix(matrix: [i32; 9]) -> Option<Self> {
        match [matrix[0], matrix[1], matrix[3], matrix[4]] {
            [0, 0, 0, 0] => Some(Self::NONE),
            [a, 0, 0, d] => Some(Self { transpose: false, flip_x: a < 0, flip_y: d < 0 }),
            [0, b, c, 0] => Some(Self { transpose: true, flip_x: c < 0, flip_y: b < 0 }),
            _ => None,
        }
    }

    /// Returns the width and height of the shown picture.
    pub(crate) fn size(self, width: usize, height: usize) -> (usize, usize) {
        if self.transpose { (height, width) } else { (width, height) }
    }

    /// Returns the shown picture.
    pub(crate) fn apply(self, frame: Frame) -> Frame {
        if self == Self::NONE {
            return frame;
        }
        let (width, height) = self.size(frame.width, frame.height);
        let mut data = Vec::with_capacity(frame.data.len());
        for plane in frame.planes() {
            for y in 0..height {
                let y = if self.flip_y { height - 1 - y } else { y };
                for x in 0..width {
                    let x = if self.flip_x { width - 1 - x } else { x };
                    let (p, q) = if self.transpose { (y, x) } else { (x, y) };
                    data.push(plane[q * frame.width + p]);
                }
            }
        }
        Frame { width, height, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quarters_turn_clockwise() {
        let one = 1 << 16;
        let matrix = |a, b, c, d| Turn::from_matrix([a, b, 0, c, d, 0, 0, 0, 1 << 30]);
        // 1 2 3
        // 4 5 6
        let data: Vec<f32> = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0].repeat(3);
        let turned = |turn: Option<Turn>| {
            let frame = turn.unwrap().apply(Frame { width: 3, height: 2, data: data.clone() });
            (frame.width, frame.height, frame.data[..6].to_vec())
        };
        assert_eq!(turned(matrix(one, 0, 0, one)).2, data[..6]);
        assert_eq!(turned(matrix(0, one, -one, 0)), (2, 3, vec![4.0, 1.0, 5.0, 2.0, 6.0, 3.0]));
        assert_eq!(turned(matrix(-one, 0, 0, -one)), (3, 2, vec![6.0, 5.0, 4.0, 3.0, 2.0, 1.0]));
        assert_eq!(turned(matrix(0, -one, one, 0)), (2, 3, vec![3.0, 6.0, 2.0, 5.0, 1.0, 4.0]));
        assert_eq!(matrix(one, one, -one, one), None);
    }
}
