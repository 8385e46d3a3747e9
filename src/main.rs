//! The `envelopefs` program: hands its arguments to the `cli` room.

fn main() -> std::process::ExitCode {
    envelopefs::cli::main()
}
