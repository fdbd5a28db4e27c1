//! The same command for NVIDIA GPUs, which `kinora` hands over to.

fn main() -> std::process::ExitCode {
    kinora_cli::main()
}
