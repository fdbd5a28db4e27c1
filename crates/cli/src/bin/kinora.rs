//! The command, for the CPU (and Apple GPUs); it starts everywhere.

fn main() -> std::process::ExitCode {
    kinora_cli::main()
}
