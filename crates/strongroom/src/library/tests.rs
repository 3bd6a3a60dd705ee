mod cloning;
mod exporting;
mod killed;
mod rig;
mod uploading;
mod volume;
