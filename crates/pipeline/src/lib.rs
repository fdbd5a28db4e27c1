//! Native video diffusion: a prompt goes in, an MP4 comes out.
