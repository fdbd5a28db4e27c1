#!/usr/bin/env bash
# rustdoc with its JSON, which stable Rust has behind this variable. Set for everything, it would build all dependencies anew.
RUSTC_BOOTSTRAP=1 exec rustdoc "$@" -Z unstable-options --output-format json
