"""What is tried of a bucket, a module for each subject; :mod:`s3_uploader.stores.s3.check` puts them together."""
