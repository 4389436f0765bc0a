//! The migrations are built into the program; cargo does not see that by itself.

fn main() {
    #[expect(clippy::print_stdout, reason = "this is how a build script speaks to cargo")]
    {
        println!("cargo::rerun-if-changed=../migrations");
    }
}
