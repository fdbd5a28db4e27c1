//! The native part of the Python package `kinora`: pipelines, and clips in files. What people call is in `python/kinora`, which hands
//! over plain values: dictionaries of options, paths, bytes of frames, text of JSON.

mod clips;
mod errors;
mod load;
mod options;
mod pipeline;
mod project;
mod request;
mod source;
mod watch;

use kinora::LargeBlocks;
use pyo3::prelude::*;
use std::alloc::System;

/// Large tensors come from the system and go back to it, as in the command.
#[global_allocator]
static ALLOCATOR: LargeBlocks<System> = LargeBlocks(System);

/// The native part of the package `kinora`.
#[pymodule]
mod _kinora {
    #[pymodule_export]
    use super::clips::{models, pull, read_recipe, write_clip};
    #[pymodule_export]
    use super::pipeline::Pipeline;
    #[pymodule_export]
    use super::source::Source;
    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        super::quiet_contained_panics();
        module.add("__version__", env!("CARGO_PKG_VERSION"))
    }
}

/// A damaged tokenizer makes the tokenizers library panic, which becomes an error: it is told once.
fn quiet_contained_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !kinora::panic_is_contained() {
            usual(panic);
        }
    }));
}
