//! [`performance_cores`]: how many cores are worth a thread of their own.

#[cfg(any(target_os = "linux", test))]
use std::path::Path;

/// The number of fast cores that this process may run on, where the system tells which they are.
///
/// Hybrid processors have slow cores beside the fast ones, and a thread of its own for each hardware thread of a core brings
/// products of matrices nothing. Linux and macOS tell.
pub fn performance_cores() -> Option<usize> {
    #[cfg(target_os = "linux")]
    return linux(Path::new("/sys/devices"), &std::fs::read_to_string("/proc/self/status").ok()?);
    #[cfg(target_os = "macos")]
    return macos();
    #[allow(unreachable_code)]
    None
}

/// `devices` is `/sys/devices`, `status` the text of `/proc/self/status`.
#[cfg(any(target_os = "linux", test))]
fn linux(devices: &Path, status: &str) -> Option<usize> {
    use std::collections::BTreeSet;
    let read = |path: &str| std::fs::read_to_string(devices.join(path)).ok();
    let allowed = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let mut cpus = list(allowed)?;
    // Intel's hybrid processors name the fast ones; on Arm, every one says its capacity.
    if let Some(fast) = read("cpu_core/cpus").as_deref().and_then(list) {
        cpus.retain(|cpu| fast.contains(cpu));
    }
    let capacity =
        |cpu: usize| -> Option<u32> { read(&format!("system/cpu/cpu{cpu}/cpu_capacity"))?.trim().parse().ok() };
    let most = cpus.iter().filter_map(|&cpu| capacity(cpu)).max();
    cpus.retain(|&cpu| capacity(cpu) == most);
    // The hardware threads of one core share a list.
    let cores: Option<BTreeSet<String>> =
        cpus.iter().map(|cpu| read(&format!("system/cpu/cpu{cpu}/topology/thread_siblings_list"))).collect();
    Some(cores?.len()).filter(|&count| count > 0)
}

/// Numbers and ranges such as `0-3,8`.
#[cfg(any(target_os = "linux", test))]
fn list(text: &str) -> Option<Vec<usize>> {
    let mut numbers = Vec::new();
    for part in text.trim().split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        numbers.extend(first.trim().parse().ok()?..=last.trim().parse::<usize>().ok()?);
    }
    Some(numbers)
}

#[cfg(target_os = "macos")]
#[allow(unsafe_code)]
fn macos() -> Option<usize> {
    let (mut count, mut len) = (0i32, size_of::<i32>());
    // SAFETY: the name ends with zero, and the number has the size that is given.
    let status = unsafe {
        let name = c"hw.perflevel0.physicalcpu".as_ptr();
        libc::sysctlbyname(name, (&raw mut count).cast(), &raw mut len, std::ptr::null_mut(), 0)
    };
    (status == 0).then(|| usize::try_from(count).ok()).flatten().filter(|&count| count > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A `/sys/devices` with these files.
    fn devices(name: &str, files: &[(&str, &str)]) -> std::path::PathBuf {
        let root = std::env::temp_dir().join(format!("kinora-cores-{}-{name}", std::process::id()));
        for (path, text) in files {
            let path = root.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        root
    }

    fn count(name: &str, files: &[(&str, &str)], allowed: &str) -> Option<usize> {
        let root = devices(name, files);
        let found = linux(&root, &format!("Name:\tkinora\nCpus_allowed_list:\t{allowed}\n"));
        let _ = fs::remove_dir_all(root);
        found
    }

    #[test]
    fn hardware_threads_slow_cores_and_others_are_left_out() {
        let siblings = |cpu: usize| format!("system/cpu/cpu{cpu}/topology/thread_siblings_list");
        let capacity = |cpu: usize| format!("system/cpu/cpu{cpu}/cpu_capacity");
        let names: Vec<(String, &str)> = (0..8)
            .map(|cpu| (siblings(cpu), ["0-1\n", "2-3\n", "4\n", "5\n", "6\n", "7\n"][[0, 0, 1, 1, 2, 3, 4, 5][cpu]]))
            .collect();
        let mut files: Vec<(&str, &str)> = names.iter().map(|(path, text)| (path.as_str(), *text)).collect();
        assert_eq!(count("plain", &files, "0-7"), Some(6));
        assert_eq!(count("affinity", &files, "1,3"), Some(2));
        files.push(("cpu_core/cpus", "0-3\n"));
        assert_eq!(count("hybrid", &files, "0-7"), Some(2));
        assert_eq!(count("hybrid-slow-only", &files, "4-7"), None);
        files.pop();
        let capacities: Vec<String> = (0..8).map(capacity).collect();
        files.extend(
            capacities.iter().enumerate().map(|(cpu, path)| (path.as_str(), if cpu < 5 { "446\n" } else { "1024\n" })),
        );
        assert_eq!(count("capacity", &files, "0-7"), Some(3));
        assert_eq!(count("silent", &[], "0-7"), None);
    }
}
