mod cloning;
mod exporting;
mod rig;
mod uploading;
mod volume;
