//! What a clip of the embedded model shows, by plain arithmetic on its pixels.
//!
//! The same rules as in `scripts/train/evaluate.py`, which explains them; the thresholds hold for every drawn clip of the list.

use candle_core::Tensor;
use serde::Deserialize;
use std::collections::BTreeMap;

/// The fixed list of prompts, `models/embedded/prompts.toml`.
#[derive(Debug, Deserialize)]
pub struct PromptList {
    /// Pixel frames of every clip.
    pub frames: usize,
    /// RGB of the colours, 0..1.
    pub colors: BTreeMap<String, [f32; 3]>,
    /// The darker tone of each colour in striped backgrounds.
    pub shades: BTreeMap<String, [f32; 3]>,
    /// The prompts.
    pub prompt: Vec<Prompt>,
}

/// One prompt, and what its clip must show.
#[derive(Debug, Deserialize)]
pub struct Prompt {
    /// The prompt.
    pub text: String,
    /// Seed of the noise.
    pub seed: u64,
    /// Pixels.
    pub width: usize,
    /// Pixels.
    pub height: usize,
    /// Colour of the shape.
    pub color: String,
    /// `ball`, `square` or `triangle`.
    pub shape: String,
    /// Colour of the background.
    pub background: String,
    /// Whether the background has two tones.
    pub striped: bool,
    /// Motion of the shape or of the camera.
    pub motion: String,
    /// Where the shape's centre is in the first frame, as a share of the width.
    pub x: f32,
    /// The same for the height.
    pub y: f32,
}

/// Which of the five rules a clip keeps.
#[expect(clippy::struct_excessive_bools, reason = "five independent rules")]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Score {
    /// The border has the background's colour.
    pub background: bool,
    /// What stands out has the shape's colour.
    pub color: bool,
    /// The shape fills its bounding box as that shape does.
    pub shape: bool,
    /// It starts where it should.
    pub position: bool,
    /// It moves as it should.
    pub motion: bool,
}

/// Frames of one clip, `[F, 3, H, W]`, 0..1.
struct Clip {
    frames: usize,
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Clip {
    fn rgb(&self, frame: usize, y: usize, x: usize) -> [f32; 3] {
        let plane = self.height * self.width;
        let at = |channel: usize| self.values[(frame * 3 + channel) * plane + y * self.width + x];
        [at(0), at(1), at(2)]
    }

    /// Every pixel as (frame, y, x).
    fn pixels(&self) -> impl Iterator<Item = (usize, usize, usize)> + '_ {
        (0..self.frames).flat_map(move |f| (0..self.height).flat_map(move |y| (0..self.width).map(move |x| (f, y, x))))
    }
}

/// The shape's pixels in one frame.
#[derive(Default)]
struct Seen {
    area: f32,
    x: f32,
    y: f32,
    fill: f32,
}

/// Scores a clip `[F, 3, H, W]`.
pub fn score(video: &Tensor, prompt: &Prompt, list: &PromptList) -> Score {
    let (frames, _, height, width) = video.dims4().expect("[F, 3, H, W]");
    let values = video.flatten_all().and_then(|t| t.to_vec1()).expect("f32");
    let clip = Clip { frames, height, width, values };
    let in_ring = |y: usize, x: usize| y < 3 || x < 3 || y + 3 >= height || x + 3 >= width;
    let border: Vec<_> = clip.pixels().filter(|&(_, y, x)| in_ring(y, x)).map(|(f, y, x)| clip.rgb(f, y, x)).collect();
    let ring = median(&border);
    let tones = list.colors.iter().chain(&list.shades);
    let background = nearest(ring, tones) == prompt.background;

    let to_background = |rgb: [f32; 3]| {
        let light = distance(rgb, list.colors[&prompt.background]);
        if prompt.striped { light.min(distance(rgb, list.shades[&prompt.background])) } else { light }
    };
    let far: Vec<[f32; 3]> =
        clip.pixels().map(|(f, y, x)| clip.rgb(f, y, x)).filter(|&rgb| to_background(rgb) > 0.30).collect();
    let share = far.len() as f32 / (frames * height * width) as f32;
    let color = share > 0.01 && share < 0.30 && nearest(median(&far), list.colors.iter()) == prompt.color;

    let own = list.colors[&prompt.color];
    let seen: Vec<Seen> = (0..frames).map(|f| look(&clip, f, |rgb| distance(rgb, own) < to_background(rgb))).collect();
    if seen.iter().any(|seen| seen.area < 8.0) {
        return Score { background, color, shape: false, position: false, motion: false };
    }
    let mut fills: Vec<f32> = seen.iter().map(|seen| seen.fill).collect();
    fills.sort_by(f32::total_cmp);
    let fill = fills[frames / 2];
    let shape = match prompt.shape.as_str() {
        "triangle" => fill < 0.72,
        "ball" => (0.72..=0.90).contains(&fill),
        _ => fill > 0.90,
    };
    let position = (seen[0].x - prompt.x).abs() < 0.15 && (seen[0].y - prompt.y).abs() < 0.15;
    Score { background, color, shape, position, motion: moves(&seen, prompt) }
}

fn moves(seen: &[Seen], prompt: &Prompt) -> bool {
    let (first, last) = (&seen[0], &seen[seen.len() - 1]);
    let (dx, dy) = (last.x - first.x, last.y - first.y);
    let (ex, ey) = (extent(seen.iter().map(|s| s.x)), extent(seen.iter().map(|s| s.y)));
    let (width, height) = (prompt.width as f32, prompt.height as f32);
    let quarter = width.min(height) * 0.25;
    let sideways = dy.abs() < dx.abs() / 2.0;
    let upright = dx.abs() < dy.abs() / 2.0;
    let middle = seen[8.min(seen.len() - 1)].y;
    // A camera that moves one way moves what stays still the other way.
    match prompt.motion.as_str() {
        "moves left" | "pans right" => dx < -0.15 && sideways,
        "moves right" | "pans left" => dx > 0.15 && sideways,
        "moves up" | "tilts down" => dy < -0.15 && upright,
        "moves down" | "tilts up" => dy > 0.15 && upright,
        "stays still" => ex < 0.10 && ey < 0.10,
        "bounces" => middle - first.y > 0.15 && middle - last.y > 0.15 && ex < 0.12,
        "circles around" => ex * width > quarter && ey * height > quarter,
        "zooms in" => last.area > 1.6 * first.area && ex < 0.20 && ey < 0.20,
        "zooms out" => last.area < first.area / 1.6 && ex < 0.20 && ey < 0.20,
        other => panic!("no rule for `{other}`"),
    }
}

fn look(clip: &Clip, frame: usize, is_shape: impl Fn([f32; 3]) -> bool) -> Seen {
    let (mut columns, mut rows) = (vec![0f32; clip.width], vec![0f32; clip.height]);
    for (y, row) in rows.iter_mut().enumerate() {
        for (x, column) in columns.iter_mut().enumerate() {
            if is_shape(clip.rgb(frame, y, x)) {
                *column += 1.0;
                *row += 1.0;
            }
        }
    }
    let area: f32 = rows.iter().sum();
    if area == 0.0 {
        return Seen::default();
    }
    let centre = |counts: &[f32]| {
        let sum: f32 = counts.iter().enumerate().map(|(i, count)| count * (i as f32 + 0.5)).sum();
        sum / area / counts.len() as f32
    };
    Seen { area, x: centre(&columns), y: centre(&rows), fill: area / (span(&columns) * span(&rows)) }
}

/// From the first to the last line that has at least an eighth of the fullest line's pixels.
fn span(counts: &[f32]) -> f32 {
    let least = counts.iter().copied().fold(0.0, f32::max) / 8.0;
    let first = counts.iter().position(|count| *count >= least).unwrap_or(0);
    let last = counts.iter().rposition(|count| *count >= least).unwrap_or(0);
    (last - first + 1) as f32
}

fn extent(values: impl Iterator<Item = f32>) -> f32 {
    let (low, high) = values.fold((f32::MAX, f32::MIN), |(low, high), v| (low.min(v), high.max(v)));
    high - low
}

fn distance(a: [f32; 3], b: [f32; 3]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f32>().sqrt()
}

fn nearest<'a>(rgb: [f32; 3], table: impl Iterator<Item = (&'a String, &'a [f32; 3])>) -> &'a str {
    let ranked = table.min_by(|a, b| distance(rgb, *a.1).total_cmp(&distance(rgb, *b.1)));
    ranked.map_or("", |(name, _)| name.as_str())
}

/// The lower median of each channel; black where there is no pixel.
fn median(pixels: &[[f32; 3]]) -> [f32; 3] {
    let channel = |c: usize| {
        let mut values: Vec<f32> = pixels.iter().map(|rgb| rgb[c]).collect();
        values.sort_by(f32::total_cmp);
        values.get(values.len().saturating_sub(1) / 2).copied().unwrap_or(0.0)
    };
    [channel(0), channel(1), channel(2)]
}
