//! Components that stay in memory between the runs of a pipeline.

use kinora::{DType, LoadOptions, Pipeline};
use kinora_tests::sandbox::copy_folder;
use kinora_tests::{Golden, bits, fixture, generate};
use std::path::Path;

/// Overwrites the tensors of every safetensors file below `folder`, whose headers stay.
fn wipe(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            wipe(&path);
        } else if path.extension().is_some_and(|extension| extension == "safetensors") {
            let mut bytes = std::fs::read(&path).expect("a file");
            let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("8 bytes")) as usize;
            bytes[header..].fill(0);
            std::fs::write(&path, bytes).expect("a file");
        }
    }
}

/// A second clip of a pipeline that keeps its components is made from those in memory: the files have nothing in them then.
#[test]
fn components_that_are_kept_are_not_read_again() {
    for (case, run) in [("wan21_t2v", "golden_b.safetensors"), ("wan22_a14b_t2v", "golden_b.safetensors")] {
        let scratch = tempfile::tempdir().expect("a directory");
        let model = scratch.path().join("model");
        copy_folder(&fixture(case), &model);
        let golden = Golden::read(case, run);
        let options = LoadOptions::default()
            .model(vec![model.to_string_lossy().into_owned()])
            .dtype(Some(DType::F32))
            .device("cpu")
            .threads(2);
        let pipelines =
            [true, false].map(|keep_warm| Pipeline::load(&options.clone().keep_warm(keep_warm)).expect("a pipeline"));
        let request = golden.request(scratch.path());
        let latents =
            |pipeline: &Pipeline| generate(pipeline, &request).map(|(_, steps)| bits(steps.last().expect("a step")));
        let [first, other] = pipelines.each_ref().map(|pipeline| latents(pipeline).expect("a clip"));
        assert_eq!(first, other);
        wipe(&model);
        assert_eq!(latents(&pipelines[0]).expect("a clip from memory"), first, "{case}");
        assert!(latents(&pipelines[1]).is_err(), "{case}: without it, the files are read");
    }
}
