//! The memory of this process, and what the machine still has for it.

use std::path::{Component, Path, PathBuf};

/// Returns the highest resident set of this process since its start or the last [`reset_peak`], bytes.
pub fn peak_memory() -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/self/status").ok()?, "VmHWM:")
}

/// Returns the resident set of this process, bytes.
pub(crate) fn resident() -> Option<u64> {
    kib(&std::fs::read_to_string("/proc/self/status").ok()?, "VmRSS:")
}

/// Resets [`peak_memory`] to the resident set of now; returns whether the system allowed it.
pub(crate) fn reset_peak() -> bool {
    std::fs::write("/proc/self/clear_refs", "5").is_ok()
}

/// Returns the bytes that this process can still get: those of the machine, or fewer if a control group that it is in has
/// a limit.
pub fn available() -> Option<u64> {
    available_below(Path::new("/"))
}

fn available_below(root: &Path) -> Option<u64> {
    let machine = kib(&std::fs::read_to_string(root.join("proc/meminfo")).ok()?, "MemAvailable:")?;
    Some(groups(root).iter().filter_map(|group| free_in(group)).fold(machine, u64::min))
}

/// The folders of the control groups that this process is in, whose limits hold one within the other: of version 2, and of
/// the memory controller of version 1 (<https://docs.kernel.org/admin-guide/cgroup-v2.html>, `cgroup-v1/memory.html`).
fn groups(root: &Path) -> Vec<PathBuf> {
    let mounted = root.join("sys/fs/cgroup");
    let own = std::fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let mut found = Vec::new();
    for line in own.lines().chain(["0::/", "0:memory:/"]) {
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        let places: &[&str] = match controllers {
            "" => &["", "unified"],
            controllers if controllers.split(',').any(|name| name == "memory") => &["memory"],
            _ => &[],
        };
        // In a container the path may be one of the machine outside: then only its last parts, or none, are folders here.
        let path: PathBuf = Path::new(path).components().filter(|part| matches!(part, Component::Normal(_))).collect();
        for place in places.iter().map(|place| mounted.join(place)) {
            found.extend(path.ancestors().map(|path| place.join(path)));
        }
    }
    found
}

/// What a control group's limit leaves; pages of files that nobody used lately are given back when memory is short.
fn free_in(group: &Path) -> Option<u64> {
    let text = |name: &str| std::fs::read_to_string(group.join(name)).ok();
    let number = |name: &str| text(name)?.trim().parse::<u64>().ok();
    let limits = ["memory.max", "memory.high", "memory.limit_in_bytes"];
    let limit = limits.iter().filter_map(|name| number(name)).min()?;
    let taken = number("memory.current").or_else(|| number("memory.usage_in_bytes"))?;
    let statistics = text("memory.stat").unwrap_or_default();
    let row = |name: &str| {
        let value = statistics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok());
        value.unwrap_or(0u64)
    };
    let unused = row("total_inactive_file").max(row("inactive_file"));
    Some(limit.saturating_sub(taken.saturating_sub(unused)))
}

/// Returns the bytes of a line `name   123 kB`.
fn kib(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_proc_are_in_kib() {
        assert_eq!(kib("VmPeak:\t  9 kB\nVmHWM:\t    12 kB\n", "VmHWM:"), Some(12 * 1024));
        assert_eq!(kib("VmPeak: 9 kB", "VmHWM:"), None);
    }

    /// What is free on a machine of 8,000 KiB with these files, of a process in these control groups.
    fn free(own: &str, files: &[(&str, &str)]) -> u64 {
        let root = tempfile::tempdir().expect("a folder");
        let fixed = [("proc/meminfo", "MemTotal: 9000 kB\nMemAvailable:  8000 kB\n"), ("proc/self/cgroup", own)];
        let groups = files.iter().map(|(name, text)| (format!("sys/fs/cgroup/{name}"), *text));
        for (name, text) in fixed.map(|(name, text)| (name.to_string(), text)).into_iter().chain(groups) {
            let path = root.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, text).expect("a file");
        }
        available_below(root.path()).expect("the machine's memory is known")
    }

    #[test]
    fn the_tightest_group_counts() {
        let machine = 8000 * 1024;
        assert_eq!(free("", &[]), machine);
        assert_eq!(free("0::/\n", &[("memory.max", "max\n"), ("memory.current", "5\n")]), machine);
        assert_eq!(free("0::/\n", &[("memory.max", "6000\n"), ("memory.current", "500\n")]), 5500);
        assert_eq!(free("0::/\n", &[("memory.max", "600\n"), ("memory.current", "5000\n")]), 0);
        let nested = [
            ("a/b/memory.max", "max"),
            ("a/b/memory.current", "10"),
            ("a/memory.max", "700"),
            ("a/memory.current", "100"),
            ("memory.max", "9000"),
            ("memory.current", "100"),
        ];
        assert_eq!(free("1:cpu:/x\n0::/a/b\n", &nested), 600);
        assert_eq!(free("0::/another\n", &nested), 8900);
        assert_eq!(free("0::/../../a\n", &nested), 600);
    }

    #[test]
    fn unused_pages_of_files_are_free() {
        let statistics = "anon 80\ninactive_file 500\nactive_file 7\n";
        let group = [("memory.max", "600"), ("memory.current", "590"), ("memory.stat", statistics)];
        assert_eq!(free("0::/", &group), 510);
    }

    #[test]
    fn version_1_has_limits_too() {
        let group = [
            ("memory/job/memory.limit_in_bytes", "600"),
            ("memory/job/memory.usage_in_bytes", "590"),
            ("memory/job/memory.stat", "inactive_file 1\ntotal_inactive_file 500\n"),
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/memory.usage_in_bytes", "590"),
        ];
        assert_eq!(free("7:cpu,memory:/job\n1:name=systemd:/x\n0::/\n", &group), 510);
        // A container's own group is mounted where the root of all would be.
        let inside = [("memory/memory.limit_in_bytes", "600"), ("memory/memory.usage_in_bytes", "50")];
        assert_eq!(free("7:memory:/docker/0123\n", &inside), 550);
    }
}
