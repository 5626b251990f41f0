"""Exact batched agglomerative clustering."""
import torch
import torch.nn.functional as F


@torch.no_grad()
def linkage_clustering(distances, num_clusters, linkage='average', backend='auto'):
    from sklearn.cluster import AgglomerativeClustering
    out = []
    for d in distances.detach().float().cpu():
        n = len(d)
        l = torch.arange(n) if n == num_clusters else torch.from_numpy(AgglomerativeClustering(num_clusters, metric='precomputed', linkage=linkage).fit(d.numpy()).labels_).long()
        first = torch.full((num_clusters,), n).scatter_reduce_(0, l, torch.arange(n), 'amin')
        out.append(first.argsort().argsort()[l])
    return torch.stack(out).to(distances.device)


@torch.no_grad()
def agglomerative_clustering(features, num_clusters, linkage='average', backend='auto'):
    with torch.autocast(features.device.type, enabled=False):
        f = F.normalize(features.detach().float(), dim=-1)
        return linkage_clustering(1 - f @ f.transpose(1, 2), num_clusters, linkage, backend)
