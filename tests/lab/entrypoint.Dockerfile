# What `gpudoctor hook docker` prints, but for the base, which has this machine's own /usr
# mounted, and for gpudoctor, which is copied to where it was installed.
FROM gpudoctor-lab/base
ARG WHERE
COPY installed ${WHERE}
COPY train.py /train.py
ENV PATH=${WHERE}/bin:/usr/bin
ENTRYPOINT ["gpudoctor", "exec", "--"]
CMD ["true"]
