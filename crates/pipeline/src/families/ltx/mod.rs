//! LTX-2.x: models of Lightricks that make video and sound together. <https://github.com/Lightricks/LTX-2>

mod files;

#[cfg_attr(not(test), allow(unused_imports, reason = "its files are known before its networks are"))]
pub(crate) use files::Ltx;
