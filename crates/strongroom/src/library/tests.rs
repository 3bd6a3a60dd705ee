mod cloning;
mod rig;
mod uploading;
