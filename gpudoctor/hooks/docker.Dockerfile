# A checkout of gpudoctor, or its wheel, lies in gpudoctor/ beside this file.
FROM IMAGE
COPY gpudoctor /tmp/gpudoctor
RUN python3 -m pip install --no-cache-dir /tmp/gpudoctor && rm -r /tmp/gpudoctor

# Checks, says on stderr what it found, and becomes the command. To block instead:
# docker run --env GPUDOCTOR_POLICY=block; to leave it out: --env GPUDOCTOR_DISABLE=1
ENTRYPOINT ["@gpudoctor@", "exec", "--"]
CMD @list@
