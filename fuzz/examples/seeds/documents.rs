//! Files with documents of every kind.

use crate::Seeds;

pub(crate) fn seeds() -> Seeds {
    FILES.iter().map(|&(name, text)| (name.to_owned(), text.into())).collect()
}

const FILES: &[(&str, &str)] = &[
    (
        "images",
        r#"apiVersion: v1
kind: Secret
metadata:
  name: key
  namespace: keys
stringData:
  CRYPTO_KEY_VALUE: correct horse battery staple
---
apiVersion: longhorn.io/v1beta2
kind: BackingImage
metadata:
  name: plain
  namespace: longhorn-system
spec:
  sourceType: download
  sourceParameters:
    url: https://images.example/disk.img
---
apiVersion: longhorn.io/v1beta2
kind: BackingImage
metadata:
  name: sealed
  namespace: longhorn-system
spec:
  sourceType: clone
  sourceParameters: {backing-image: plain, encryption: encrypt, secret: key, secret-namespace: keys}
---
apiVersion: longhorn.io/v1beta2
kind: BackingImage
metadata:
  name: opened
  namespace: longhorn-system
spec:
  sourceType: clone
  sourceParameters: {backing-image: sealed, encryption: decrypt, secret: key, secret-namespace: keys}
"#,
    ),
    (
        "claims",
        r#"apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: each
  annotations:
    storageclass.kubernetes.io/is-default-class: "true"
provisioner: driver.longhorn.io
allowVolumeExpansion: true
parameters:
  encrypted: "true"
  csi.storage.k8s.io/node-stage-secret-name: ${pvc.name}
  csi.storage.k8s.io/node-stage-secret-namespace: ${pvc.namespace}
  csi.storage.k8s.io/node-publish-secret-name: ${pvc.name}
  csi.storage.k8s.io/node-publish-secret-namespace: ${pvc.namespace}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: disk, namespace: lab}
spec:
  accessModes: [ReadWriteOnce]
  resources: {requests: {storage: 1.5Gi}}
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotClass
metadata: {name: snap}
driver: driver.longhorn.io
deletionPolicy: Delete
parameters: {type: snap}
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: monday, namespace: lab}
spec:
  volumeSnapshotClassName: snap
  source: {persistentVolumeClaimName: disk}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: copy, namespace: lab}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: each
  dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: monday}
  resources: {requests: {storage: 2G}}
"#,
    ),
    (
        "machines",
        r#"apiVersion: harvesterhci.io/v1beta1
kind: VirtualMachineImage
metadata: {name: jammy, namespace: lab}
spec:
  displayName: jammy
  sourceType: upload
---
apiVersion: harvesterhci.io/v1beta1
kind: VirtualMachineImage
metadata:
  name: sealed
  namespace: lab
  annotations: {harvesterhci.io/storageClassName: vault}
spec:
  displayName: sealed
  sourceType: clone
  securityParameters:
    cryptoOperation: encrypt
    sourceImageName: jammy
    sourceImageNamespace: lab
---
apiVersion: kubevirt.io/v1
kind: VirtualMachine
metadata: {name: vm, namespace: lab}
spec:
  template:
    spec:
      volumes:
      - name: root
        persistentVolumeClaim: {claimName: disk}
"#,
    ),
    (
        "list",
        r#"{"apiVersion": "v1", "kind": "List", "items": [
  {"apiVersion": "v1", "kind": "SecretList", "items": [
    {"metadata": {"name": "key", "namespace": "keys"}, "data": {"CRYPTO_KEY_VALUE": "eA==", "CRYPTO_KEY_SIZE": "NTEy"}}]},
  {"apiVersion": "longhorn.io/v1beta2", "kind": "Volume", "metadata": {"name": "v", "namespace": "longhorn-system",
    "annotations": {"strongroom.io/secret": "keys/key"}},
   "spec": {"size": "1073741824", "encrypted": true, "frontend": "blockdev", "dataSource": "snap://a/b"}}]}
"#,
    ),
    (
        "aliases",
        r#"apiVersion: v1
kind: PersistentVolume
metadata: &meta {name: pvc-1}
spec:
  capacity: {storage: 1Gi}
  claimRef: {namespace: lab, name: disk}
  csi:
    volumeHandle: pvc-1
    nodeStageSecretRef: &secret {name: key, namespace: keys}
    nodePublishSecretRef: *secret
    volumeAttributes: {<<: *meta, encrypted: "true"}
"#,
    ),
];
