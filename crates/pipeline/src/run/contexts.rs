//! Text contexts: from an earlier part of the run, from earlier runs with the same prompt, or from the text encoder, which is loaded
//! only for prompts that are new.

use super::Pipeline;
use super::run_dir::RunDir;
use crate::Result;
use crate::families::family::Tensors;
use crate::model::Model;
use crate::model::role::Role;
use crate::plan::Planned;
use crate::plan::placement::Placement;
use candle_core::Tensor;
use kinora_files::path_text;
use kinora_kernels::Level;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// The most bytes of contexts that are kept; those that were not used for the longest time go first.
const MOST_BYTES: u64 = 1 << 28;
/// Names of the files end so.
const SUFFIX: &str = ".context.safetensors";

impl Pipeline {
    /// The text contexts of the prompt and, where the plan is guided, of the negative prompt.
    pub(super) fn encode_prompts(&self, planned: &Planned, run_dir: Option<&RunDir>) -> Result<Vec<Tensors>> {
        let (Planned { plan, placement, .. }, names) = (planned, self.family.context_names());
        if let Some(run_dir) = run_dir
            && let Some(prompts) = run_dir.load_contexts(plan, names, &placement.device)?
        {
            return Ok(prompts);
        }
        let on_cpu = placement.text_on_cpu.then(|| placement.on_cpu());
        let at = on_cpu.as_ref().unwrap_or(placement);
        let kept = self.contexts.as_deref().and_then(|folder| Kept::new(folder, &self.model, at));
        let prompt = plan.spoken_prompt();
        let texts = [Some(prompt.as_str()), plan.guided().then_some(plan.negative_prompt.as_str())];
        let mut encoder = None;
        let mut prompts = Vec::new();
        for text in texts.into_iter().flatten() {
            let known = kept.as_ref().and_then(|kept| kept.get(text, names));
            let contexts = if let Some(contexts) = known {
                contexts
            } else {
                if encoder.is_none() {
                    let name = format!("text encoder on {:?}", at.device.location());
                    encoder = Some(self.warm.take(name, || self.family.text_encoder(&self.model, at))?);
                }
                let encoder = encoder.as_ref().expect("it was loaded");
                let contexts = encoder.encode(text)?;
                if let Some(kept) = &kept {
                    kept.put(text, &contexts);
                }
                contexts
            };
            let on_device = |(name, context): (String, Tensor)| Ok((name, context.to_device(&placement.device)?));
            prompts.push(contexts.into_iter().map(on_device).collect::<Result<Tensors>>()?);
        }
        if let Some(run_dir) = run_dir {
            run_dir.save_contexts(&prompts)?;
        }
        Ok(prompts)
    }
}

/// Contexts of earlier runs with the same text encoder. They are a cache: what cannot be read or written is done without.
struct Kept {
    folder: PathBuf,
    /// The encoder, its files and its arithmetic.
    encoder: String,
}

impl Kept {
    /// The contexts in `folder` of the model's text encoder as it is placed; none of one whose files are not known.
    fn new(folder: &Path, model: &Model, placement: &Placement) -> Option<Self> {
        let mut encoder = String::new();
        for file in model.text_files()? {
            let facts = file.metadata().ok()?;
            let written = facts.modified().ok()?.duration_since(UNIX_EPOCH).ok()?;
            let path = std::path::absolute(&file).ok()?;
            writeln!(encoder, "{} {} {written:?}", path_text(&path), facts.len()).ok()?;
        }
        let config = model.components(Role::TextEncoder).iter().map(|component| format!("{:?}", component.config));
        let Placement { device, dtype, quant, exact, .. } = placement;
        let (level, rows) = (Level::current().name(), model.manifest.text_len);
        // A new version may compute other bits.
        let version = env!("CARGO_PKG_VERSION");
        let config = config.collect::<String>();
        writeln!(encoder, "{config} {rows} {:?} {dtype:?} {quant:?} {exact} {level} {version}", device.location())
            .ok()?;
        Some(Self { folder: folder.into(), encoder })
    }

    /// The file of a prompt's contexts; nobody reads the prompt in it.
    fn path(&self, text: &str) -> PathBuf {
        let hash = Sha256::new().chain_update(&self.encoder).chain_update([0]).chain_update(text).finalize();
        let name = hash.iter().fold(String::new(), |name, byte| name + &format!("{byte:02x}"));
        self.folder.join(name + SUFFIX)
    }

    fn get(&self, text: &str, names: &[&str]) -> Option<Tensors> {
        let path = self.path(text);
        let mut tensors = kinora_checkpoint::load_safetensors(&path).ok()?.0;
        let mut contexts = Tensors::new();
        for name in names {
            let tensor = tensors.remove(*name).filter(|tensor| tensor.rank() == 3)?;
            kinora_sampler::all_finite(&tensor).ok().filter(|finite| *finite)?;
            contexts.insert((*name).to_string(), tensor);
        }
        // The least recently used ones go first.
        if let Ok(file) = File::options().append(true).open(&path) {
            let _ = file.set_modified(SystemTime::now());
        }
        Some(contexts)
    }

    fn put(&self, text: &str, contexts: &Tensors) {
        let tensors: Vec<_> = contexts.iter().map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
        if fs::create_dir_all(&self.folder).is_ok() {
            let _ = kinora_checkpoint::save_safetensors(&self.path(text), &tensors, &BTreeMap::new());
            prune(&self.folder, MOST_BYTES);
        }
    }
}

/// Removes the contexts that were not used for the longest time, until at most `most` bytes are left.
fn prune(folder: &Path, most: u64) {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let own = entries.filter(|entry| entry.file_name().to_string_lossy().ends_with(SUFFIX));
    let facts = own.filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry)));
    let mut kept: Vec<_> = facts.collect();
    kept.sort_by_key(|(used, _)| std::cmp::Reverse(*used));
    let mut bytes = 0;
    for (_, entry) in kept {
        bytes += entry.metadata().map_or(0, |facts| facts.len());
        if bytes > most {
            let _ = fs::remove_file(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn the_oldest_contexts_go_first() {
        let folder = tempfile::tempdir().expect("a folder");
        for (age, name) in [(3, "a"), (1, "b"), (2, "c")] {
            let path = folder.path().join(format!("{name}{SUFFIX}"));
            fs::write(&path, [0; 100]).expect("a file");
            let file = File::options().append(true).open(&path).expect("a file");
            file.set_modified(SystemTime::now() - Duration::from_mins(age)).expect("a time");
        }
        fs::write(folder.path().join("other"), [0; 1000]).expect("a file");
        prune(folder.path(), 250);
        let mut names: Vec<_> = fs::read_dir(folder.path())
            .expect("a folder")
            .map(|entry| entry.expect("an entry").file_name().into_string().expect("a name"))
            .collect();
        names.sort();
        assert_eq!(names, [format!("b{SUFFIX}"), format!("c{SUFFIX}"), "other".into()]);
    }
}
