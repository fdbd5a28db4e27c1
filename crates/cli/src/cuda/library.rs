//! Checks whether the system's loader finds a shared library.
#![allow(unsafe_code)]

use libc::{RTLD_LAZY, RTLD_LOCAL, dlclose, dlerror, dlopen};
use std::ffi::{CStr, CString};

/// Loads a library and closes it again.
///
/// # Errors
/// The loader's error, which begins with the library's name or path.
pub fn check(name: &str) -> Result<(), String> {
    let name = CString::new(name).map_err(|_| "a name with a zero byte".to_string())?;
    // SAFETY: a valid C string. The initialisers of the library are NVIDIA's, and made to be run by a loader.
    let handle = unsafe { dlopen(name.as_ptr(), RTLD_LAZY | RTLD_LOCAL) };
    if handle.is_null() {
        // SAFETY: after a failure this is a valid C string until the next call of these functions in this thread.
        let reason = unsafe { dlerror().as_ref().map(|text| CStr::from_ptr(text)) };
        return Err(reason.map_or_else(|| "no reason given".into(), |text| text.to_string_lossy().into_owned()));
    }
    // SAFETY: it was opened above, and nothing of it is in use.
    unsafe { dlclose(handle) };
    Ok(())
}
