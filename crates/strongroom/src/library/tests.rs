mod cloning;
mod rig;
mod uploading;
mod volume;
