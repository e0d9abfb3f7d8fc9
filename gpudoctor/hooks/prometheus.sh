#!/bin/sh
# By cron or a systemd timer. node_exporter --collector.textfile.directory names the directory;
# node_textfile_mtime_seconds tells when this last ran. The file is replaced as a whole.
umask 022
@gpudoctor@ check -qq -o prometheus=@metrics@/gpudoctor.prom
[ $? != 2 ] # what was found is in the file, not in the exit code
