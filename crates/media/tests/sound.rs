//! Sound in clips as ffprobe and ffmpeg see it, and on its way from clip to clip.

#![cfg(feature = "opus")]
#![allow(clippy::print_stderr, reason = "measured quality is reported")]

#[path = "support/fixtures.rs"]
mod fixtures;
mod support;

use kinora_media::{ClipSpec, Fps, Readers, Sound, SoundTrack, WriteOptions, create, open, read_recipe};
use std::path::{Path, PathBuf};
use std::process::Command;
use support::{Probe, flat, have_ffmpeg, shapes, spec};

fn embedded() -> WriteOptions {
    WriteOptions { recipe: Some(r#"{"seed":7}"#.into()), encoder: Some("openh264".into()), quality: None }
}

/// Writes a clip of moving shapes; the sentence is about sound that is not kept.
fn write(path: &Path, spec: &ClipSpec, frames: usize, sound: &SoundTrack) -> Option<String> {
    let mut writer = create(path, spec, &embedded()).unwrap();
    let said = writer.sound(sound).unwrap();
    for index in 0..frames {
        writer.push(&shapes(spec, index)).unwrap();
    }
    writer.finish().unwrap();
    said
}

/// A swept tone whose channels differ, with a little of its octave: `[channels, samples]`.
fn sweep(rate: u32, channels: usize, samples: usize) -> Sound {
    let mut data = Vec::with_capacity(channels * samples);
    for channel in 0..channels {
        for at in 0..samples {
            let time = at as f64 / f64::from(rate);
            let phase = std::f64::consts::TAU * (300.0 + 250.0 * channel as f64 + 200.0 * time) * time;
            data.push((0.4 * phase.sin() + 0.05 * (2.0 * phase).sin()) as f32);
        }
    }
    Sound::new(rate, channels, data).unwrap()
}

/// What ffprobe says of the first sound stream.
fn probed(path: &Path, key: &str) -> String {
    let entry = format!("stream={key}");
    let args = ["-v", "error", "-select_streams", "a:0", "-show_entries", &entry, "-of", "default=nk=1:nw=1"];
    let output = Command::new("ffprobe").args(args).arg(path).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().into()
}

fn ffmpeg(before: &[&str], path: &Path, after: &[&str]) -> Vec<u8> {
    let all = ["-v", "error", "-nostdin", "-y"];
    let output = Command::new("ffmpeg").args(all).args(before).arg("-i").arg(path).args(after).output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// The sound as ffmpeg decodes it.
fn decoded(path: &Path) -> Sound {
    let (rate, channels) = (probed(path, "sample_rate"), probed(path, "channels"));
    let bytes = ffmpeg(&[], path, &["-map", "0:a:0", "-f", "f32le", "-"]);
    let values: Vec<f32> = bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect();
    let (rate, channels) = (rate.parse().unwrap(), channels.parse::<usize>().unwrap());
    let of_channel = |index| values.iter().skip(index).step_by(channels).copied();
    Sound::new(rate, channels, (0..channels).flat_map(of_channel).collect()).unwrap()
}

/// The sound of a clip of so many seconds as ffmpeg decodes it: ffmpeg hears the last packet, of 2.5 ms, to its end.
fn heard_by_ffmpeg(path: &Path, seconds: f64) -> Sound {
    let (heard, wanted) = (decoded(path), (seconds * 48_000.0).round() as usize);
    assert!((wanted..wanted + 120).contains(&heard.samples()), "{} samples for {wanted}", heard.samples());
    let length = probed(path, "duration_ts").parse::<usize>().unwrap();
    assert!([wanted, wanted + 312].contains(&length), "{length} ticks for {wanted}");
    heard.fitted(wanted)
}

/// The signal in decibels over the difference, without `edge` samples at both ends.
fn snr(wanted: &Sound, got: &Sound, edge: usize) -> f64 {
    assert_eq!((wanted.rate, wanted.channels), (got.rate, got.channels));
    let [mut signal, mut error] = [0.0; 2];
    for channel in 0..wanted.channels {
        let (wanted, got) = (wanted.channel(channel), got.channel(channel));
        for (a, b) in wanted.iter().zip(got).take(wanted.len() - edge).skip(edge) {
            signal += f64::from(*a).powi(2);
            error += f64::from(a - b).powi(2);
        }
    }
    10.0 * (signal / error).log10()
}

#[test]
fn sound_begins_and_ends_with_the_frames() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ntsc = Fps::new(24_000, 1001).unwrap();
    for (number, (rate, channels, fps, frames)) in [
        (48_000, 2, Fps::new(24, 1).unwrap(), 121),
        (24_000, 2, Fps::new(24, 1).unwrap(), 49),
        (16_000, 1, Fps::new(16, 1).unwrap(), 33),
        (44_100, 1, Fps::new(25, 1).unwrap(), 30),
        (32_000, 2, ntsc, 25),
        (48_000, 1, Fps::new(16, 1).unwrap(), 1),
    ]
    .into_iter()
    .enumerate()
    {
        let path = dir.path().join(format!("{number}.mp4"));
        let spec = ClipSpec { width: 64, height: 48, fps };
        let seconds = frames as f64 / fps.as_f64();
        let sound = sweep(rate, channels, (seconds * f64::from(rate)).round() as usize);
        assert_eq!(write(&path, &spec, frames, &sound.clone().into()), None);
        assert_eq!(read_recipe(&path).unwrap().as_deref(), Some(r#"{"seed":7}"#));
        let video = Probe::of(&path);
        assert_eq!((video.get("start_time"), video.get("nb_read_frames")), ("0.000000", frames.to_string().as_str()));
        assert_eq!(probed(&path, "start_time"), "0.000000");
        assert_eq!(probed(&path, "codec_name,channels").replace('\n', " "), format!("opus {channels}"));
        let length = probed(&path, "duration").parse::<f64>().unwrap();
        assert!((length - seconds).abs() < 1e-3, "{length} of {seconds} s");
        let (heard, wanted) = (heard_by_ffmpeg(&path, seconds), sound.resampled(48_000).unwrap());
        let snr = snr(&wanted.fitted(heard.samples()), &heard, 960.min(heard.samples() / 4));
        eprintln!("{rate} Hz, {channels} channels, {frames} frames: {snr:.1} dB");
        assert!(snr >= 40.0, "{rate} Hz: {snr:.1} dB");
    }
}

/// A click and a white frame come at the same time, to the sample.
#[test]
fn a_click_stays_at_its_frame() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("click.mp4");
    let (spec, flash) = (spec(64, 48, 24), 30);
    let mut sound = Sound::new(48_000, 1, vec![0.0; 2 * 48_000]).unwrap();
    for (at, value) in [0.5, 0.9, 0.5].into_iter().enumerate() {
        sound.data[flash * 2000 - 1 + at] = value;
    }
    let mut writer = create(&path, &spec, &embedded()).unwrap();
    assert_eq!(writer.sound(&sound.into()).unwrap(), None);
    for index in 0..48 {
        writer.push(&flat(&spec, [if index == flash { 1.0 } else { 0.0 }; 3])).unwrap();
    }
    writer.finish().unwrap();
    let loudest = |sound: &Sound| {
        let loudness = |at: &usize| sound.data[*at].abs();
        (0..sound.samples()).max_by(|a, b| loudness(a).total_cmp(&loudness(b))).unwrap()
    };
    assert_eq!(loudest(&decoded(&path)), flash * 2000);
    assert_eq!(loudest(&open(&path).unwrap().sound().unwrap().decoded().unwrap()), flash * 2000);
    let pictures = support::decode(&path, "gray");
    let bright: Vec<usize> = (0..48).filter(|index| pictures[index * 64 * 48 + 1000] > 200).collect();
    assert_eq!(bright, [flash]);
    // The times of the packets: what is shown with the white frame is what is heard.
    let args = ["-v", "error", "-select_streams", "v:0", "-show_entries", "packet=pts_time", "-of", "csv=p=0"];
    let output = Command::new("ffprobe").args(args).arg(&path).output().unwrap();
    let times = String::from_utf8(output.stdout).unwrap();
    assert_eq!(times.lines().nth(flash).unwrap().trim_end_matches(','), "1.250000");
}

#[test]
fn sound_is_padded_or_cut_to_the_frames() {
    let dir = tempfile::tempdir().unwrap();
    let spec = spec(64, 48, 24);
    for (given, name) in [(48_000, "padded.mp4"), (150_000, "cut.mp4"), (0, "silent.mp4")] {
        let path = dir.path().join(name);
        let sound = sweep(48_000, 2, given);
        assert_eq!(write(&path, &spec, 48, &sound.clone().into()), None);
        let heard = open(&path).unwrap().sound().unwrap().decoded().unwrap();
        assert_eq!(heard.samples(), 96_000, "{name}");
        if given > 0 {
            let least = given.min(96_000);
            assert!(snr(&sound.fitted(least), &heard.fitted(least), 960) > 40.0, "{name}");
        }
        assert!(heard.channel(0).iter().skip(given + 2000).all(|sample| sample.abs() < 1e-3), "{name}");
        if have_ffmpeg() {
            heard_by_ffmpeg(&path, 2.0);
        }
    }
}

/// Packets of a clip are the same in the next one, and heard at the same time.
#[test]
fn packets_are_taken_over_as_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let [first, second, short] = ["first.mp4", "second.mp4", "short.mp4"].map(|name| dir.path().join(name));
    let spec = spec(64, 48, 24);
    write(&first, &spec, 48, &sweep(48_000, 2, 96_000).into());
    let track = open(&first).unwrap().sound().unwrap();
    assert!(track.is_coded());
    assert_eq!((track.rate(), track.channels()), (48_000, 2));
    assert_eq!(write(&second, &spec, 48, &track), None);
    assert_eq!(write(&short, &spec, 24, &track), None);
    let heard = track.decoded().unwrap();
    let again = open(&second).unwrap().sound().unwrap().decoded().unwrap();
    assert!(heard == again);
    let cut = open(&short).unwrap().sound().unwrap().decoded().unwrap();
    assert_eq!(cut.samples(), 48_000);
    assert!(heard.fitted(48_000) == *cut);
    if have_ffmpeg() {
        let copied = |path: &Path| ffmpeg(&[], path, &["-map", "0:a:0", "-c", "copy", "-f", "data", "-"]);
        assert!(copied(&first) == copied(&second));
        assert!(decoded(&first) == decoded(&second));
        assert_eq!(
            (probed(&second, "start_time").as_str(), probed(&short, "duration").as_str()),
            ("0.000000", "1.000000")
        );
        // Packets stay whole, and ffmpeg hears the last one to its end.
        assert!(decoded(&short).samples() - 48_000 < 960);
    }
    // From memory.
    let bytes = std::fs::read(&first).unwrap();
    assert!(*open(bytes).unwrap().sound().unwrap().decoded().unwrap() == *heard);
}

/// A clip of a test picture and a tone that ffmpeg makes; the tone begins so many seconds after the picture.
fn foreign(path: &Path, late: &str, args: &[&str]) {
    let tone = "aevalsrc=0.4*sin(880*PI*t)|0.3*sin(1320*PI*t):s=44100:d=2";
    ffmpeg(
        &["-f", "lavfi", "-i", "testsrc=s=64x48:r=24:d=2", "-itsoffset", late, "-f", "lavfi"],
        Path::new(tone),
        &[args, &[path.to_str().unwrap()]].concat(),
    );
}

fn readers() -> Readers {
    let path = std::env::var_os("PATH").unwrap();
    let found = std::env::split_paths(&path).map(|folder| folder.join("ffmpeg")).find(|file| file.is_file());
    Readers { ffmpeg: found }
}

#[test]
fn sound_of_other_encoders_is_kept() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    let h264 = ["-c:v", "libx264", "-pix_fmt", "yuv420p"];
    let fragments = ["-bf", "0", "-c:a", "aac", "-movflags", "frag_keyframe+empty_moov+default_base_moof"];
    for (name, late, audio) in [
        ("aac.mp4", 0.0, &["-c:a", "aac", "-b:a", "192k"][..]),
        ("late.mp4", 0.25, &["-c:a", "aac", "-b:a", "192k"][..]),
        ("opus.mp4", 0.0, &["-c:a", "libopus", "-b:a", "192k", "-strict", "-2"][..]),
        ("flac.mp4", 0.0, &["-c:a", "flac", "-strict", "-2"][..]),
        ("fragments.mp4", 0.0, &fragments[..]),
    ] {
        foreign(&at(name), &late.to_string(), &[&h264[..], audio].concat());
        let clip = readers().open(at(name)).unwrap();
        let track = clip.sound().unwrap_or_else(|| panic!("{name}: {:?}", clip.notes()));
        let about_sound = clip.notes().iter().any(|note| note.contains("sound"));
        assert!(track.is_coded() && !about_sound, "{name}: {:?}", clip.notes());
        let (kept, frames) = (at(&format!("kept_{name}")), clip.frames().unwrap());
        assert_eq!(write(&kept, &clip.spec(), frames, &track), None);
        let [was, start] = [&at(name), &kept].map(|path| probed(path, "start_time").parse::<f64>().unwrap());
        assert!((start - was).abs() < 1e-3 && (start > 0.2) == (late > 0.2), "{name} begins at {start}, not at {was}");
        let (before, after) = (decoded(&at(name)), decoded(&kept));
        let common = before.samples().min(after.samples());
        assert!(
            common as f64 > 44_100.0 * (1.95 - late),
            "{name}: {} and {} samples",
            before.samples(),
            after.samples()
        );
        assert!(before.fitted(common) == after.fitted(common), "{name}");
        // What begins late is not where FFmpeg puts it: it leaves out the encoder's first samples, and does not move the rest.
        if late == 0.0 {
            let (heard, wanted) = (track.decoded().unwrap(), before.fitted(common));
            let wanted = wanted.resampled(heard.rate).unwrap();
            let snr = snr(&wanted, &heard.fitted(wanted.samples()), 2000);
            assert!(snr > 40.0, "{name}: {snr:.1} dB");
        }
    }
}

#[cfg(not(feature = "ffmpeg"))]
#[test]
fn sound_that_ffmpeg_reads_is_in_time() {
    if !have_ffmpeg() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let tone: Vec<f32> = (0..96_000)
        .flat_map(|at| {
            [880.0, 1320.0].map(|f: f64| (0.35 * (f * std::f64::consts::PI * f64::from(at) / 48_000.0).sin()) as f32)
        })
        .collect();
    for (name, args) in [
        ("vp9.mkv", &["-c:v", "libvpx-vp9", "-pix_fmt", "yuv420p", "-deadline", "realtime", "-c:a", "flac"][..]),
        (
            "hevc.mp4",
            &[
                "-c:v",
                "libx265",
                "-pix_fmt",
                "yuv420p",
                "-x265-params",
                "log-level=none",
                "-c:a",
                "aac",
                "-b:a",
                "192k",
            ][..],
        ),
        ("pcm.mov", &["-c:v", "prores", "-c:a", "pcm_s16le"][..]),
    ] {
        let path = dir.path().join(name);
        foreign(&path, "0", args);
        let clip = readers().open(&path).unwrap();
        let track = clip.sound().unwrap_or_else(|| panic!("{name}: {:?}", clip.notes()));
        let heard = track.decoded().unwrap();
        assert_eq!((heard.rate, heard.channels), (48_000, 2), "{name}");
        assert!(heard.samples().abs_diff(96_000) < 1200, "{name}: {} samples", heard.samples());
        let mut scale = [0.4 / 0.35, 0.3 / 0.35].into_iter().cycle();
        let wanted: Vec<f32> = tone.iter().map(|sample| sample * scale.next().unwrap()).collect();
        let of_channel = |index| wanted.iter().skip(index).step_by(2).copied();
        let wanted = Sound::new(48_000, 2, (0..2).flat_map(of_channel).collect()).unwrap();
        let least = heard.samples().min(94_000);
        let snr = snr(&wanted.fitted(least), &heard.fitted(least), 4000);
        eprintln!("{name}: {snr:.1} dB");
        assert!(snr > 30.0, "{name}: {snr:.1} dB");
        // Into a clip of ours.
        let kept = dir.path().join("kept.mp4");
        assert_eq!(write(&kept, &clip.spec(), 48, &track), None);
        assert_eq!(probed(&kept, "start_time"), "0.000000");
        heard_by_ffmpeg(&kept, 2.0);
    }
}

#[test]
fn raw_frames_have_raw_sound() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.safetensors");
    let spec = spec(8, 6, 24);
    let sound = sweep(24_000, 2, 30_000);
    assert_eq!(write(&path, &spec, 24, &sound.clone().into()), None);
    let clip = open(&path).unwrap();
    assert_eq!(clip.sound().unwrap().decoded().unwrap().as_ref(), &sound.fitted(24_000));
    let bytes = std::fs::read(&path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(file.tensor("audio").unwrap().shape(), [2, 24_000]);
    let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).unwrap();
    assert_eq!(header.metadata().as_ref().unwrap()["sample_rate"], "24000");
    assert_eq!(read_recipe(&path).unwrap().as_deref(), Some(r#"{"seed":7}"#));
    // Packets become samples.
    let coded = dir.path().join("clip.mp4");
    write(&coded, &support::spec(64, 48, 24), 24, &sound.into());
    let track = open(&coded).unwrap().sound().unwrap();
    assert_eq!(write(&path, &spec, 24, &track), None);
    let audio = open(&path).unwrap().sound().unwrap().decoded().unwrap();
    assert!((audio.rate, audio.samples()) == (48_000, 48_000) && audio == track.decoded().unwrap());
}

#[test]
fn formats_without_sound_say_so() {
    let dir = tempfile::tempdir().unwrap();
    let sound: SoundTrack = sweep(48_000, 1, 1000).into();
    for name in ["clip.gif", "clip.webp", "clip.y4m", "clip.png"] {
        let said = write(&dir.path().join(name), &spec(16, 16, 8), 2, &sound);
        assert!(said.is_some_and(|said| said.contains("not kept")), "{name}");
    }
    let many: SoundTrack = sweep(48_000, 6, 1000).into();
    let said = write(&dir.path().join("clip.mp4"), &spec(16, 16, 8), 2, &many);
    assert_eq!(said.unwrap(), "the sound has 6 channels, an MP4 file keeps one or two: it is not kept");
}

/// The sound of a clip, and a file that looks as if it had one.
#[test]
fn what_is_wrong_with_sound_is_said() {
    let clip = open(fixtures::fixture("h264/sound.mp4")).unwrap();
    assert!(clip.notes().is_empty() && clip.sound().is_some(), "{:?}", clip.notes());
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("clip.mp4");
    write(&path, &spec(64, 48, 24), 12, &sweep(48_000, 1, 24_000).into());
    let whole = std::fs::read(&path).unwrap();
    let place = |name: &[u8]| whole.windows(name.len()).position(|part| part == name).unwrap();
    let mut other = whole.clone();
    other[place(b"Opus")..][..4].copy_from_slice(b"Nope");
    let clip = open(other).unwrap();
    assert!(clip.sound().is_none() && clip.notes()[0].contains("it is coded as `Nope`"), "{:?}", clip.notes());
    // The frames are there all the same.
    assert_eq!(clip.frames(), Some(12));
    // Damaged packets are an error of decoding alone.
    let mut damaged = whole.clone();
    let start = place(b"mdat") + 12;
    damaged[start..].iter_mut().for_each(|byte| *byte = 0xff);
    if let Ok(clip) = open(damaged) {
        assert!(clip.sound().is_none_or(|sound| sound.decoded().is_err()));
    }
}
